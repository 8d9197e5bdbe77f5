"""``python -m cis_seg.train [overrides]``: compose, build, run, report."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cis_seg.build import build_module, build_training_data
from cis_seg.config.plain import to_dataclass, to_plain
from cis_seg.config.schema import Config
from cis_seg.config.validation import checked, option_of, without_effect
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.workers import worker_errors_explained
from cis_seg.errors import CheckpointError, ConfigError, RunError
from cis_seg.evaluation.scores import METRICS, OBJECTIVE, print_report, reported_step, write_metrics
from cis_seg.model.layers import share_norms
from cis_seg.runtime.atomic_files import retry_while_disk_full, write_atomically
from cis_seg.runtime.compat import number_rows_from
from cis_seg.runtime.machine import keep_freed_memory, on_gpu, slow_precision
from cis_seg.training.callbacks.wandb_logging.logger import close_loggers
from cis_seg.training.initial_weights import check_base_finished, compose_base, follow_weights, load_start, missing_base
from cis_seg.training.launch import is_first, launch, processes_to_start
from cis_seg.training.metrics import LatestEvaluation
from cis_seg.training.module import SCORED_SETS, CondInstModule
from cis_seg.training.resume import ResumePoint, check_data, check_options, log_changes, resume_command
from cis_seg.training.run_folder import check_writable, checkpoints_of, held, make_ready, newest_good
from cis_seg.training.trainer import build_callbacks, build_loggers, build_trainer, early_end_cause

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
    point = _resume_point(typed, run, first=is_first())
    finished = point is not None and reported_step(run) >= typed.schedule.max_steps
    if point is not None:
        check_options(point, plain, finished=finished)
        if finished and typed.data.root == point.metadata["config"]["data"]["root"]:
            return _report_finished(run, point, plain)
    _check_early(typed, fresh=point is None)
    processes = processes_to_start(typed.trainer)
    data = build_training_data(typed)
    data.setup("fit")
    if point is not None:
        check_data(point, data)
        if finished:
            return _report_finished(run, point, plain)
    if is_first():
        data.check_scored(typed.eval.area)
    if point is None and (experiment := missing_base(typed)) is not None:
        log.info("init_from: %s does not exist yet; training it first: experiment=%s", typed.init_from, experiment)
        train(compose_base(experiment, typed), arguments)
    if processes:
        return launch("cis_seg.commands.train.train", plain, processes, run, arguments)
    with held(run) if is_first() else nullcontext():
        return _train(cfg, data, run, point, arguments)


def _train(cfg: DictConfig, data: InstanceDataModule, run: Path, point: ResumePoint | None, arguments: Sequence[str]) -> float | None:
    """Train in this process, which holds the run's folder."""
    typed = to_dataclass(cfg)
    if point is not None:
        log_changes(point, to_plain(cfg))
    start = typed.init_from if point is None else point.path
    if start is not None:
        cfg = follow_weights(cfg, Path(start))
    plain, typed = to_plain(cfg), to_dataclass(cfg)
    L.seed_everything(typed.seed, workers=True, verbose=False)
    if not on_gpu(typed.trainer):
        keep_freed_memory()
    module = build_module(typed, plain, data)
    load_start(typed, module, None if point is None else point.path, console=Console(stderr=True, quiet=not is_first()))
    if is_first():
        _make_ready(typed, run, point)
        config, path = OmegaConf.to_yaml(OmegaConf.create(plain)).encode(), run / "config.yaml"
        retry_while_disk_full(lambda: write_atomically(path, config), path, len(config))
    latest = LatestEvaluation()
    callbacks = [*build_callbacks(cfg, arguments), latest]
    trainer = build_trainer(cfg, typed, callbacks, build_loggers(plain, run, point))
    if trainer.world_size > 1:
        share_norms(module.model, trainer.strategy.root_device)
    try:
        with worker_errors_explained():
            trainer.fit(module, datamodule=data, ckpt_path=None if point is None else point.path, weights_only=True)
            metrics = _finish(trainer, module, data, run, latest)
    finally:
        close_loggers(trainer, run)
    if not trainer.is_global_zero:
        return metrics.get(OBJECTIVE)
    if trainer.global_step < trainer.max_steps:
        _report_early_end(trainer, run, arguments)
    return print_report(run)


def _resume_point(cfg: Config, run: Path, *, first: bool) -> ResumePoint | None:
    """Return the checkpoint to continue from, or None for a new run; an existing run is never overwritten."""
    if isinstance(cfg.resume, str) and (not checkpoints_of(run) or run.resolve() in Path(cfg.resume).resolve().parents):
        return ResumePoint.read(Path(cfg.resume))
    if cfg.resume is True and (path := newest_good(run, first=first)) is not None:
        return ResumePoint.read(path)
    existing = [path for path in (*checkpoints_of(run), run / METRICS) if path.is_file()]
    if existing and cfg.resume is True:
        raise ConfigError(
            f"the run {run} has no checkpoint to continue from",
            found=f"{existing[0].name} in it",
            remedy="give this run another name=... or seed=..., or delete the folder to train it again",
        )
    if existing:
        raise ConfigError(
            f"the run {run} exists already",
            found=f"{existing[0].name} in it",
            remedy="continue it with resume=true, give this one another name=... or seed=..., or delete the folder",
        )
    return None


def _check_early(cfg: Config, *, fresh: bool) -> None:
    """Report mistakes that can be found before a crowd is drawn or a large json is read."""
    if HydraConfig.initialized():  # the command's own process
        for line in without_effect(cfg, map(option_of, HydraConfig.get().overrides.task)):
            log.warning(line)
        if (slow := slow_precision(cfg.trainer)) is not None:
            log.warning("WARNING: %s\n  what to do: %s", *slow)
    check_writable(Path(cfg.paths.run))
    experiment = missing_base(cfg)
    if experiment is not None and cfg.base_overrides is None:
        raise CheckpointError(
            f"the base of this fine-tune does not exist: {cfg.init_from}",
            where="init_from",
            remedy=f"train it first: python -m cis_seg.train experiment={experiment} seed={cfg.seed} (or name another with init_from=FILE)",
        )
    if fresh:
        check_base_finished(cfg)


def _make_ready(cfg: Config, run: Path, point: ResumePoint | None) -> None:
    """Prepare the run's folder: the logs end at the checkpoint's step, without the rows of a validation that is repeated."""
    step = 0 if point is None else point.step
    repeated = point is not None and (point.validation_due(cfg.schedule.val_every) or step >= cfg.schedule.max_steps)
    make_ready(run, step, repeated=[f"{name}/" for name in SCORED_SETS] if repeated else [])


def _finish(
    trainer: L.Trainer, module: CondInstModule, data: InstanceDataModule, run: Path, latest: LatestEvaluation
) -> Mapping[str, float | None]:
    """Score the last step unless the schedule did, write ``metrics.json`` atomically and return its scores.

    Raises:
        RunError: no step was trained.
    """
    if trainer.global_step == 0:
        raise RunError(
            "the run ended before its first step",
            expected=f"{trainer.max_steps} steps",
            found=f"{early_end_cause(trainer)} stopped it",
            remedy="give it more time (trainer.max_time), or remove the callback that stopped it",
        )
    if latest.result is None or latest.result.step != trainer.global_step:
        number_rows_from(trainer, trainer.global_step - 1)
        trainer.validate(module, datamodule=data, verbose=False)
    metrics = {} if latest.result is None else latest.result.metrics  # None with trainer.limit_val_batches=0
    if trainer.is_global_zero:
        write_metrics(run, {**metrics, "step": trainer.global_step})
    return metrics


def _report_finished(run: Path, point: ResumePoint, plain: dict[str, Any]) -> float | None:
    log_changes(point, plain)
    log.info("this run is finished; its report:")
    return print_report(run)


def _report_early_end(trainer: L.Trainer, run: Path, arguments: Sequence[str]) -> None:
    """Log what ended a run before its last step, where, and how to continue it."""
    saved = checkpoints_of(run)
    how = f"saved in {saved[0]}\n  continue with: {resume_command(arguments)}" if saved else "callbacks.last is off: it cannot be continued"
    log.warning("%s ended the run after step %d of %d\n  %s", early_end_cause(trainer), trainer.global_step, trainer.max_steps, how)


def _quiet_lightning() -> None:
    """Silence messages that do not concern the user: unused hardware, an advertisement, a deprecation inside Lightning."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message="It is recommended to use .self.log.'val/")  # every process has scored all images itself
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # a resumed run
