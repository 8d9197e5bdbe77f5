"""``python -m cis_seg.train [overrides]``: compose, build, run, report."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from cis_seg import config
from cis_seg.build import build_criterion, build_data, build_module
from cis_seg.checkpoint import load_file
from cis_seg.cli import run_hydra
from cis_seg.config import Config
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.module import CondInstModule
from cis_seg.report import METRICS, OBJECTIVE, print_report
from cis_seg.start import compose_base, follow_weights, load_start, missing_base

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """One run, from the composed config to ``metrics.json``; returns the validation mask AP.

    Raises:
        UserError: what the user can mend; the message says how.
    """
    _quiet_lightning()
    plain, typed = config.to_plain(cfg), config.to_dataclass(cfg)
    run = Path(typed.paths.run)
    resume_path = _resume_path(typed, run)
    if resume_path is not None and _finished(run, resume_path, typed.schedule.max_steps):
        log.info("this run is finished; its report:")
        return print_report(run)
    _check_early(typed)
    data = build_data(typed.data, home=Path(typed.paths.data), optim=typed.optim, seed=typed.seed, load_masks=typed.supervision == "mask")
    data.setup("fit")
    if resume_path is None and (experiment := missing_base(typed)) is not None:
        log.info("init_from: %s is not there yet; training it first: experiment=%s", typed.init_from, experiment)
        train(compose_base(experiment, typed))
    if (start := resume_path or typed.init_from) is not None:
        follow_weights(cfg, Path(start))
        plain, typed = config.to_plain(cfg), config.to_dataclass(cfg)
    L.seed_everything(typed.seed, workers=True, verbose=False)
    module = build_module(typed, plain, data)
    load_start(typed, module, resume_path)
    run.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(plain), run / "config.yaml")
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        logger=_loggers(cfg),
        callbacks=list(instantiate(cfg.callbacks).values()),
        val_check_interval=typed.schedule.val_every * typed.optim.accumulate,  # Lightning counts micro-batches
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_path, weights_only=True)
        _finish(trainer, module, data, run)
    finally:
        _close_loggers(trainer)
    return print_report(run) if trainer.is_global_zero else module.final_metrics.get(OBJECTIVE)


def _resume_path(cfg: Config, run: Path) -> Path | None:
    """The checkpoint to continue from, or None for a fresh start; an existing run is never overwritten."""
    last = run / "checkpoints" / "last.ckpt"
    if isinstance(cfg.resume, str):
        return Path(cfg.resume)
    if cfg.resume:
        return last if last.is_file() else None
    if last.is_file() or (run / METRICS).is_file():
        raise ConfigError(
            f"the run {run} exists already",
            found=f"{last.name if last.is_file() else METRICS} in it",
            remedy="continue it with resume=true, give this one another name=... or seed=..., or delete the folder",
        )
    return None


def _check_early(cfg: Config) -> None:
    """Mistakes that no data are needed for, found before a crowd is drawn or a large json is read."""
    build_criterion(cfg.loss, cfg.model.mask_out_stride, cfg.seed)
    experiment = missing_base(cfg)
    if experiment is not None and cfg.base_overrides is None:
        raise CheckpointError(
            f"the base of this fine-tune is not there: {cfg.init_from}",
            where="init_from",
            remedy=f"train it first: python -m cis_seg.train experiment={experiment} seed={cfg.seed} (or name another with init_from=FILE)",
        )


def _finished(run: Path, checkpoint: Path, max_steps: int) -> bool:
    if not (run / METRICS).is_file():
        return False
    step: int = load_file(checkpoint)["global_step"]
    return step >= max_steps


def _finish(trainer: L.Trainer, module: CondInstModule, data: InstanceDataModule, run: Path) -> None:
    """Scores and saves the last step where the intervals did not, then writes ``metrics.json`` in one piece."""
    if trainer.global_step < trainer.max_steps:
        return
    if module.scored_step != trainer.global_step:
        trainer.validate(module, datamodule=data, verbose=False)
    trainer.save_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=False)  # with the optimiser: more steps may follow
    if trainer.is_global_zero:
        draft = run / f"{METRICS}.partial"
        draft.write_text(json.dumps(module.final_metrics | {"step": trainer.global_step}, indent=2) + "\n")
        draft.rename(run / METRICS)


def _loggers(cfg: DictConfig) -> list[Logger]:
    loggers: dict[str, Logger] = instantiate(cfg.logger) or {}
    for logger in loggers.values():
        logger.log_hyperparams(config.to_plain(cfg))
    return list(loggers.values())


def _close_loggers(trainer: L.Trainer) -> None:
    """Ends the W&B run: without it the next job of a multirun would log into this one."""
    if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()


def _quiet_lightning() -> None:
    """Silences what is no concern of the user's: hardware that is not there, an advertisement, one deprecation of its own."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def main() -> None:
    """Entry point."""
    config.register()
    run_hydra(train, config_name="config")


if __name__ == "__main__":
    main()
