"""The directory of the configuration files; and checks that what a config names exists, made before PyTorch is imported."""

from __future__ import annotations

import glob
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from cis_seg.config.rules import CHECKED_LATER, CHECKPOINT, WRITTEN
from cis_seg.config.schema import Config, CrowdData, DataConfig
from cis_seg.errors import CheckpointError, ConfigError, DataError, listing


def conf_dir() -> str:
    """Return the absolute path of the directory with ``config.yaml`` and its groups.

    It is ``conf/`` beside ``src/`` in a checkout (also with ``pip install -e``), and ``cis_seg/conf/`` in an installed wheel.
    The checkout takes precedence, so that an edited file takes effect. Neither depends on the working directory.

    Raises:
        ConfigError: neither exists (an incomplete copy of the repository, or a wheel built without its YAML files).
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    candidates = [package / "conf"]
    if package.parent.name == "src" and (checkout / "pyproject.toml").is_file():
        candidates.insert(0, checkout / "conf")
    for candidate in candidates:
        if candidate.is_dir():
            return str(candidate)
    raise ConfigError(
        "the configuration files of cis_seg are missing",
        where=package,
        expected=" or ".join(map(str, candidates)),
        remedy="clone the repository again, or reinstall the package",
    )


def check_paths(cfg: Any) -> None:
    """Raise an error for the first file or folder that ``cfg`` names and that does not exist.

    A resumed run needs neither its initial weights nor, if it is finished, its data; ``train`` checks them when it reads them.

    Args:
        cfg: the validated config of a command.

    Raises:
        UserError: a missing checkpoint, input, file or folder.
    """
    for option in fields(cfg):
        kind, value = option.metadata.get("path"), getattr(cfg, option.name)
        if kind == CHECKPOINT and value is not None:
            check_checkpoint(Path(value))
        elif kind not in (None, CHECKPOINT, CHECKED_LATER, WRITTEN) and value is not None:
            _check_exists(value, option.name, kind)
    if isinstance(cfg, Config):
        if cfg.resume is not False:
            return
        if cfg.init_from is not None and experiment_of(Path(cfg.init_from)) is None:
            check_checkpoint(Path(cfg.init_from))
    if isinstance(data := getattr(cfg, "data", None), DataConfig) and not isinstance(data, CrowdData):
        _check_root(data.root)


def check_checkpoint(path: Path) -> None:
    """Raise an error if the file ``path`` does not exist.

    Raises:
        CheckpointError: the message lists the checkpoints in its folder.
    """
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in path.parent.glob("*.ckpt"))) if path.parent.is_dir() else ""
        raise CheckpointError(
            f"there is no checkpoint {path}", found=f"in {path.parent}: {found or 'no .ckpt file'}", remedy="check the path"
        )


def experiment_of(base: Path) -> str | None:
    """Return the experiment whose run a checkpoint belongs to, by the name of its folder; None if there is no such experiment."""
    experiment = base.parents[2].name if len(base.parents) > 2 else ""
    return experiment if (Path(conf_dir()) / "experiment" / f"{experiment}.yaml").is_file() else None


def _check_exists(text: str, key: str, problem: str) -> None:
    path = Path(text).expanduser()
    if key == "input" and not path.exists() and (text.isdecimal() or "://" in text):
        raise ConfigError(
            "cameras, streams and web addresses are not read",
            where=f"input={text}",
            expected="an image, a video, a folder of them, or a pattern such as 'photos/**/*.jpg'",
            found="a camera number" if text.isdecimal() else "an address",
            remedy="download the file, or record a video first, for example with ffmpeg -i SOURCE -t 60 clip.mp4",
        )
    if not os.path.lexists(path) and not (key == "input" and glob.has_magic(text)):
        found = f"in {path.parent}: {listing(path.parent)}"
        raise DataError(problem, where=f"{key}={text}", found=found, remedy="check the path")


def _check_root(text: str) -> None:
    root = Path(text).expanduser()
    if not root.is_dir():
        raise ConfigError(
            "there is no such data folder",
            where=f"data.root={text}",
            expected="the folder of the data set",
            found=f"in {root.parent}: {listing(root.parent)}",
            remedy="check the path, or download the data set",
        )
