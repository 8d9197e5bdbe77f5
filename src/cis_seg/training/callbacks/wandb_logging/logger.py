"""The W&B logger of a run: group, job type and tags, little output, and optionally its checkpoints as an artifact."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from cis_seg.errors import ConfigError
from cis_seg.runtime.compat import drop_wandb_option
from cis_seg.training.run_folder import family

log = logging.getLogger(__name__)

STANDARD_WIDTH = 64  # of the published ResNet, not worth a tag
DATA = "WANDB_DATA_DIR"
KEPT = ("last.ckpt", "best.ckpt")
LONGEST_TAG = 64  # W&B refuses longer ones


class RunLogger(WandbLogger):
    """Lightning's logger with groups and job types that make W&B's group view the paper's table: families of runs, and their stages.

    W&B prints about forty lines per run; they are replaced by one. ``WANDB_SHOW_INFO=true`` in the environment restores them; warnings and
    errors are always printed. Offline nothing is sent, not even W&B's own error reports. Files of tables and artifacts stay in the run's
    folder until ``wandb sync``, not in the home directory.

    Args:
        about: from the run's config ``name``, ``init_from``, ``base_overrides``, ``overlap`` (lambda), ``supervision``, ``data``,
            ``backbone`` and ``neck``. The name of the W&B run itself is set in ``conf/logger/wandb.yaml``.
        group, job_type: null: ``group_of`` and ``stage_of``.
        save_dir: the run's folder.
        tags: in addition to those of ``tags_of``.
        offline: record only; ``wandb sync`` uploads the run later.
        log_model: store ``last.ckpt`` and ``best.ckpt`` of a finished run as an artifact; offline they are uploaded with the run.
        options: further options of Lightning and of ``wandb.init``.
    """

    def __init__(
        self,
        *,
        about: Mapping[str, Any],
        save_dir: str,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        offline: bool = True,
        log_model: bool = False,
        **options: Any,
    ) -> None:
        os.environ.setdefault("WANDB_SHOW_INFO", "false")  # in the environment, which W&B reads before the settings of a run
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._data = str(Path(save_dir, "wandb").resolve())
        os.environ.setdefault(DATA, self._data)
        super().__init__(
            save_dir=save_dir,
            offline=offline,
            group=group or group_of(about),
            job_type=job_type or stage_of(about),
            tags=[*tags_of(about), *tags],
            settings={"console": "off"},
            **options,
        )
        drop_wandb_option(self, "anonymous")
        self.keeps_checkpoints = log_model

    @property
    def experiment(self) -> Any:
        """W&B's run object, created at the first access.

        Raises:
            ConfigError: online, and nobody is logged in or the server does not respond.
        """
        import wandb

        try:
            return super().experiment
        except wandb.Error as error:
            remedy = "log in while online (wandb login), or record offline: logger.wandb.offline=true"
            raise ConfigError("W&B could not start this run", where="logger.wandb", found=error, remedy=remedy) from error

    def close(self, folder: Path, *, failed: bool) -> None:
        """Store the checkpoints of the finished run in ``folder`` if requested, end the run, and log where it is."""
        import wandb

        run = self.experiment
        if self.keeps_checkpoints and not failed:
            log_checkpoints(run, folder)
        where = f"wandb sync {Path(run.dir).parent}" if run.offline else run.url
        wandb.finish(exit_code=int(failed))
        if os.environ.get(DATA) == self._data:  # the next run of a multirun has its own folder
            del os.environ[DATA]
        log.info("W&B%s: %s", ", recorded offline; to send it" if run.offline else "", where)


def wandb_disabled() -> str | None:
    """Return the environment variable that switches W&B off, as ``NAME=value``; None if there is none."""
    mode, disabled = (os.environ.get(name, "") for name in ("WANDB_MODE", "WANDB_DISABLED"))
    if mode.lower() == "disabled":
        return f"WANDB_MODE={mode}"
    return None if disabled.lower() in {"", "0", "false", "f", "no", "n", "off"} else f"WANDB_DISABLED={disabled}"


def close_loggers(trainer: L.Trainer, folder: Path) -> None:
    """End the W&B run of ``folder``, as failed during an exception; otherwise the next job of a multirun would log into it."""
    failed = sys.exc_info()[0] is not None
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if isinstance(logger, RunLogger):
            logger.close(folder, failed=failed)


def log_checkpoints(run: Any, folder: Path) -> None:
    """Log ``last.ckpt`` and ``best.ckpt`` of a run's folder as one artifact ``checkpoints-<run id>``, without copying the files."""
    import wandb

    artifact = wandb.Artifact(f"checkpoints-{run.id}", type="model", metadata={"folder": folder.name})
    for path in (folder / "checkpoints" / name for name in KEPT):
        if path.is_file():  # without a score there is no best.ckpt
            artifact.add_file(str(path), policy="immutable")  # the default copies each file into W&B's cache first
    run.log_artifact(artifact)


def group_of(about: Mapping[str, Any]) -> str:
    """Return the group of runs that are compared: the name without the stage (``crowd_tiny``) or the sweep's lambda."""
    return family(str(about["name"]).removesuffix(f"_{about['overlap']}"))


def stage_of(about: Mapping[str, Any]) -> str:
    """Return ``teacher`` with one, ``overlap`` with OverlapLoss, ``control`` for a fine-tune without, else ``pretrain``.

    A run that trains its own base is a ``pretrain``, too.
    """
    if about["teacher"]:
        return "teacher"
    if about["overlap"]:
        return "overlap"
    return "control" if about["init_from"] is not None and about["base_overrides"] is None else "pretrain"


def tags_of(about: Mapping[str, Any]) -> list[str]:
    """Return tags to filter by: stage, network, data and lambda."""
    backbone = about["backbone"]
    width = "" if backbone["width"] == STANDARD_WIDTH else f"w{backbone['width']}"
    resnet = f"r{backbone['depth']}{width}{'_dcn' if backbone['deform_interval'] else ''}"
    network = f"{resnet if backbone['name'] == 'resnet' else backbone['name']}_{about['neck']}"
    tags = [stage_of(about), network, Path(str(about["data"])).name, f"lambda {about['overlap']:g}"]
    return [tag[:LONGEST_TAG] for tag in [*tags, *(["true masks"] if about["supervision"] == "mask" else [])] if tag]
