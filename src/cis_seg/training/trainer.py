"""The Lightning trainer of a run, with its callbacks and loggers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ProgressBar, Timer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from cis_seg.config.schema import Config
from cis_seg.errors import ConfigError
from cis_seg.training.callbacks.checkpoints import AtomicCheckpointIO, LastCheckpoint
from cis_seg.training.callbacks.run_card import RunCard
from cis_seg.training.callbacks.wandb_logging.logger import wandb_disabled
from cis_seg.training.launch import is_first, strategy
from cis_seg.training.resume import ResumePoint
from cis_seg.training.run_folder import wandb_id

log = logging.getLogger(__name__)


class TimeLimit(Timer):
    """Lightning's timer for ``trainer.max_time``. It counts the time since this start, so that a resumed run has the full time again."""

    def __init__(self, duration: Any) -> None:
        try:
            super().__init__(duration=duration, interval="step")
        except (MisconfigurationException, AttributeError, TypeError) as error:
            raise ConfigError(
                "trainer.max_time is not a duration",
                where="trainer.max_time",
                expected="DD:HH:MM:SS",
                found=repr(duration),
                remedy="for example +trainer.max_time=00:11:45:00 (eleven hours and three quarters)",
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Nothing is kept for a resumed run."""
        return {}


def build_trainer(cfg: DictConfig, typed: Config, callbacks: Sequence[L.Callback], loggers: Sequence[Logger]) -> L.Trainer:
    """Return the trainer of the run ``cfg``; ``typed`` is the same as dataclasses."""
    duration = typed.trainer.get("max_time")
    callbacks = [*callbacks, *([] if duration is None else [TimeLimit(duration)])]
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        logger=list(loggers),
        callbacks=callbacks,
        max_time=None,
        plugins=[AtomicCheckpointIO()],
        strategy=strategy(typed.trainer, vars(typed.loss.weights)),
        val_check_interval=typed.schedule.val_every * typed.optim.accumulate,  # Lightning counts micro-batches
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )
    return trainer


def early_end_cause(trainer: L.Trainer) -> str:
    """Return what ended a run before its last step: a time limit, early stopping, or the user's callbacks."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None and remaining <= 0:
            return "the time limit (trainer.max_time)"
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message is not None:
            return f"early stopping ({callback.stopping_reason_message.rstrip('.')})"
    others = [f"{type(callback).__module__}.{type(callback).__qualname__}" for callback in callbacks]
    return " or ".join(name for name in others if not name.startswith(("cis_seg.", "lightning."))) or "a callback"


def build_callbacks(cfg: DictConfig, arguments: Sequence[str]) -> list[L.Callback]:
    """Return the config's callbacks, without those that are null; those that print the run's command get its arguments.

    Raises:
        ConfigError: an entry that is not a callback.
    """
    callbacks: list[L.Callback] = []
    for name, options in (cfg.callbacks or {}).items():
        callback = instantiate(options) if isinstance(options, DictConfig) else options
        if callback is None:
            continue
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"callbacks.{name} is not a callback",
                where=f"callbacks.{name}",
                expected="a mapping whose _target_ is a Lightning callback, or null",
                found=repr(callback),
                remedy=f"set callbacks.{name}._target_, or switch the callback off: callbacks.{name}=null",
            )
        if isinstance(callback, LastCheckpoint | RunCard):
            callback.arguments = arguments
        callbacks.append(callback)
    if not any(isinstance(callback, LastCheckpoint) for callback in callbacks):
        log.warning("callbacks.last is off: last.ckpt is not written, so this run cannot be resumed")
    return callbacks


def build_loggers(plain: dict[str, Any], run: Path, point: ResumePoint | None) -> list[Logger]:
    """Return the config's loggers, without those that are null, set to continue what this run has logged before."""
    options = {name: dict(given) for name, given in (plain["logger"] or {}).items() if given is not None}
    if "wandb" in options and (switch := wandb_disabled()) is not None:
        log.info("W&B is off (%s)", switch)
        del options["wandb"]
    if "wandb" in options and options["wandb"].get("id", "") is None and is_first():
        options["wandb"]["id"] = wandb_id(run)
    if "tensorboard" in options and point is not None:
        options["tensorboard"]["purge_step"] = point.step
    loggers: dict[str, Logger] = instantiate(options)
    for logger in loggers.values():
        logger.log_hyperparams(plain | {"logger": options})
    return list(loggers.values())
