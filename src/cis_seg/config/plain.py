"""Configs as plain containers, for checkpoints and YAML files, and back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from cis_seg.config.paths import conf_dir
from cis_seg.config.schema import DATA_SCHEMAS, Config, InferenceConfig
from cis_seg.errors import ConfigError, DataError

#: files beside metrics.json: the config of the run, and that of an evaluation
CONFIG, EVALUATION = "config.yaml", "evaluate.yaml"


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config as plain containers, which a checkpoint can hold and load without unpickling objects."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_dataclass(cfg: DictConfig) -> Any:
    """Return the resolved config as its schema's dataclasses."""
    return OmegaConf.to_object(cfg)


def from_plain(plain: dict[str, Any]) -> DictConfig:
    """Return the config of ``to_plain``'s result; the data set's schema is the one with the same keys."""
    found = set(plain["data"])
    schema = next(kind for kind in DATA_SCHEMAS.values() if {option.name for option in fields(kind)} == found)
    merged = OmegaConf.merge(OmegaConf.structured(Config), {"data": OmegaConf.structured(schema)}, plain)
    assert isinstance(merged, DictConfig)
    with open_dict(merged):
        del merged["defaults"]  # Hydra's own list, which it removes too
    return merged


def chosen_inference(name: str, **options: bool | None) -> InferenceConfig:
    """Return the options of ``inference=NAME``, as the commands compose them from ``conf/inference``.

    Args:
        name: ``reference`` or ``best``.
        options: those that are not None replace the preset's.

    Raises:
        ConfigError: there is no such preset.
    """
    folder = Path(conf_dir()) / "inference"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError("there is no such preset", where="inference", expected=f"one of {', '.join(known)}", found=name)
    given = {key: value for key, value in options.items() if value is not None}
    chosen = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(InferenceConfig), OmegaConf.load(folder / f"{name}.yaml"), given))
    assert isinstance(chosen, InferenceConfig)
    return chosen


def read_plain(path: Path) -> dict[str, Any]:
    """Read a config that ``train`` or ``evaluate`` wrote; its keys are those of the version that wrote it.

    Raises:
        DataError: the file is not YAML, or not a mapping.
    """
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # the parser's own classes: PyYAML is OmegaConf's library, not ours
        raise DataError("a config cannot be read", where=path, found=error, remedy="leave this run out") from error
    if not isinstance(plain, dict):
        raise DataError("a config is not a mapping", where=path, found=type(plain).__name__, remedy="leave this run out")
    return {str(key): value for key, value in plain.items()}
