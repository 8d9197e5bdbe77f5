"""``python -m cis_seg.train [overrides]``: compose, build, run, report."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cis_seg.build import build_data, build_module
from cis_seg.checkpoints.lightning_io import AtomicCheckpointIO
from cis_seg.checkpoints.reading import load_file
from cis_seg.config.plain import to_dataclass, to_plain
from cis_seg.config.schema import Config
from cis_seg.config.validation import checked, option_of, without_effect
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.workers import worker_errors_explained
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.evaluation.score_table import METRICS, OBJECTIVE, print_report, reported_step
from cis_seg.model.sync_batch_norm import share_norms
from cis_seg.runtime.atomic_files import patiently, write_atomically
from cis_seg.runtime.compat import number_rows_from
from cis_seg.runtime.processor import slow_precision
from cis_seg.training.callbacks.checkpoints import LastCheckpoint, validation_due
from cis_seg.training.callbacks.run_card import RunCard
from cis_seg.training.callbacks.wandb_logging.logger import close_loggers
from cis_seg.training.evaluation_result import LatestEvaluation
from cis_seg.training.initial_weights import check_base_finished, compose_base, follow_weights, load_start, missing_base
from cis_seg.training.launch import is_first, launch, processes_to_start, strategy
from cis_seg.training.module import SCORED_SETS, CondInstModule
from cis_seg.training.resume import check_changes
from cis_seg.training.run_folder import check_writable, checkpoints_of, held, make_ready, newest_good, wandb_id

log = logging.getLogger(__name__)


def train(cfg: DictConfig, arguments: Sequence[str] = ()) -> float | None:
    """One run, from the composed config to ``metrics.json``; returns the validation mask AP.

    Args:
        cfg: the composed config.
        arguments: of the command, which the run card and the message of a stopped run repeat.

    Raises:
        UserError: a mistake of the user, with what to do about it.
    """
    _quiet_lightning()
    plain, typed = to_plain(cfg), checked(cfg)
    run = Path(typed.paths.run)
    resume_path = _resume_path(typed, run, first=is_first())
    if resume_path is not None and reported_step(run) >= typed.schedule.max_steps:
        log.info("this run is finished; its report:")
        return print_report(run)
    _check_early(typed, fresh=resume_path is None)
    processes = processes_to_start(typed.trainer)
    data = build_data(typed.data, home=Path(typed.paths.data), optim=typed.optim, seed=typed.seed, load_masks=typed.supervision == "mask")
    data.setup("fit")
    if is_first():
        data.check_scored(typed.eval.area)
    if resume_path is None and (experiment := missing_base(typed)) is not None:
        log.info("init_from: %s is not there yet; training it first: experiment=%s", typed.init_from, experiment)
        train(compose_base(experiment, typed), arguments)
    if processes:
        return launch("cis_seg.commands.train.train", plain, processes, run, arguments)
    with held(run) if is_first() else nullcontext():
        return _train(cfg, data, run, resume_path, arguments)


def _train(cfg: DictConfig, data: InstanceDataModule, run: Path, resume_path: Path | None, arguments: Sequence[str]) -> float | None:
    """The run of this process, its folder being its own."""
    plain, typed = to_plain(cfg), to_dataclass(cfg)
    if resume_path is not None:
        check_changes(resume_path, plain, images=len(data.train_dataset))
    if (start := resume_path or typed.init_from) is not None:
        cfg = follow_weights(cfg, Path(start))
        plain, typed = to_plain(cfg), to_dataclass(cfg)
    L.seed_everything(typed.seed, workers=True, verbose=False)
    module = build_module(typed, plain, data)
    load_start(typed, module, resume_path, console=Console(stderr=True, quiet=not is_first()))
    if is_first():
        _make_ready(typed, run, resume_path)
        _write(run / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain)))
    latest = LatestEvaluation()
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        logger=_loggers(plain, run, resume_path),
        callbacks=[*_callbacks(cfg, arguments), latest],
        plugins=[AtomicCheckpointIO()],
        strategy=strategy(typed.trainer, vars(typed.loss.weights)),
        val_check_interval=typed.schedule.val_every * typed.optim.accumulate,  # Lightning counts micro-batches
    )
    if trainer.world_size > 1:
        share_norms(module.model, trainer.strategy.root_device)
    try:
        with worker_errors_explained():
            trainer.fit(module, datamodule=data, ckpt_path=resume_path, weights_only=True)
            metrics = _finish(trainer, module, data, run, latest)
    finally:
        close_loggers(trainer, run)
    return print_report(run) if trainer.is_global_zero else metrics.get(OBJECTIVE)


def _resume_path(cfg: Config, run: Path, *, first: bool) -> Path | None:
    """The checkpoint to continue from, or None for a fresh start; an existing run is never overwritten."""
    if isinstance(cfg.resume, str) and (not checkpoints_of(run) or run.resolve() in Path(cfg.resume).resolve().parents):
        return Path(cfg.resume)
    if cfg.resume is True:
        return newest_good(run, first=first)
    if there := [*checkpoints_of(run), *(path for path in [run / METRICS] if path.is_file())]:
        raise ConfigError(
            f"the run {run} exists already",
            found=f"{there[0].name} in it",
            remedy="continue it with resume=true, give this one another name=... or seed=..., or delete the folder",
        )
    return None


def _check_early(cfg: Config, *, fresh: bool) -> None:
    """Mistakes that no data are needed for, found before a crowd is drawn or a large json is read."""
    if HydraConfig.initialized():  # the command's own process
        for line in without_effect(cfg, map(option_of, HydraConfig.get().overrides.task)):
            log.warning(line)
        if (slow := slow_precision(cfg.trainer)) is not None:
            log.warning("WARNING: %s\n  what to do: %s", *slow)
    check_writable(Path(cfg.paths.run))
    experiment = missing_base(cfg)
    if experiment is not None and cfg.base_overrides is None:
        raise CheckpointError(
            f"the base of this fine-tune is not there: {cfg.init_from}",
            where="init_from",
            remedy=f"train it first: python -m cis_seg.train experiment={experiment} seed={cfg.seed} (or name another with init_from=FILE)",
        )
    if fresh:
        check_base_finished(cfg)


def _make_ready(cfg: Config, run: Path, resume_path: Path | None) -> None:
    """The run's folder as this start needs it: the logs as long as the checkpoint's run, but for a validation that comes again."""
    content = {} if resume_path is None else load_file(resume_path)
    step = content.get("global_step", 0)
    again = validation_due(content, cfg.schedule.val_every) or step >= cfg.schedule.max_steps
    make_ready(run, step, repeated=[f"{name}/" for name in SCORED_SETS] if again else [])


def _finish(
    trainer: L.Trainer, module: CondInstModule, data: InstanceDataModule, run: Path, latest: LatestEvaluation
) -> Mapping[str, float | None]:
    """Score the last step unless the schedule did, write ``metrics.json`` in one piece and return its scores."""
    if trainer.global_step < trainer.max_steps:
        return {} if latest.result is None else latest.result.metrics
    if latest.result is None or latest.result.step != trainer.global_step:
        number_rows_from(trainer, trainer.global_step - 1)
        trainer.validate(module, datamodule=data, verbose=False)
    assert latest.result is not None
    if trainer.is_global_zero:
        _write(run / METRICS, json.dumps({**latest.result.metrics, "step": trainer.global_step}, indent=2) + "\n")
    return latest.result.metrics


def _write(path: Path, text: str) -> None:
    patiently(lambda: write_atomically(path, text.encode()), path, len(text))


def _callbacks(cfg: DictConfig, arguments: Sequence[str]) -> list[L.Callback]:
    """The config's callbacks; those that print the run's command are given its arguments."""
    callbacks = list(instantiate(cfg.callbacks).values())
    for callback in callbacks:
        if isinstance(callback, LastCheckpoint | RunCard):
            callback.arguments = arguments
    return callbacks


def _loggers(plain: dict[str, Any], run: Path, resume_path: Path | None) -> list[Logger]:
    """The config's loggers, set to continue what this run has logged before."""
    options = {name: dict(given) for name, given in (plain["logger"] or {}).items()}
    if "wandb" in options and options["wandb"].get("id", "") is None and is_first():
        options["wandb"]["id"] = wandb_id(run)
    if "tensorboard" in options and resume_path is not None:
        options["tensorboard"]["purge_step"] = load_file(resume_path)["global_step"]
    loggers: dict[str, Logger] = instantiate(options)
    for logger in loggers.values():
        logger.log_hyperparams(plain | {"logger": options})
    return list(loggers.values())


def _quiet_lightning() -> None:
    """Silences what is no concern of the user's: hardware that is not there, an advertisement, one deprecation of its own."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message="It is recommended to use .self.log.'val/")  # every process has scored all images itself
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # as it should, where a run continues
