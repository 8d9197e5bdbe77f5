"""Logging of training steps, before the checkpoint of a step is written; and W&B's step count."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch

from cis_seg.runtime.machine import peak_host_memory
from cis_seg.training.callbacks.wandb_logging.dashboard import wandb_runs
from cis_seg.training.metrics import LEARNING_RATE, PEAK_CUDA, PEAK_RSS, RAW, SPEED, WEIGHTED

GIGABYTE = 1e9


class StepMetrics(L.Callback):
    """Log learning rate, speed, memory and weighted losses every ``log_every_n_steps`` steps.

    At these steps Lightning copies the losses to the host anyway, so nothing else waits for the device. ``speed/images_per_s`` counts the
    global batch since the last row, without validation. Lightning's ThroughputMonitor synchronises the device in every step, and its
    LearningRateMonitor has a curve for each parameter group, although all of ours have the same rate.
    """

    def __init__(self) -> None:
        self._since, self._last_step, self._rate = 0.0, 0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]  # at the end of the step the scheduler has set the next one

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every or step == self._last_step:  # or a micro-batch of an incomplete step
            return
        metrics = {LEARNING_RATE: self._rate, **self._speed(trainer), **peak_memory(trainer.strategy.root_device)}
        metrics |= weighted_losses(trainer, pl_module)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step - 1)
        self._restart(trainer)

    def _restart(self, trainer: L.Trainer) -> None:
        self._since, self._last_step = time.monotonic(), trainer.global_step

    def _speed(self, trainer: L.Trainer) -> dict[str, float]:
        images = (trainer.global_step - self._last_step) * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        return {SPEED: images / (time.monotonic() - self._since)}


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory of this process in 10^9 bytes: of the host, and of the GPU if it trains on one."""
    host = peak_host_memory()
    memory = {} if host is None else {PEAK_RSS: host / GIGABYTE}
    return memory | ({PEAK_CUDA: torch.cuda.max_memory_allocated(device) / GIGABYTE} if device.type == "cuda" else {})


def weighted_losses(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
    """Return the weighted loss terms, from the raw ones that the module logged in this step, with one copy to the host."""
    raw = {name.removeprefix(RAW): value for name, value in trainer.callback_metrics.items() if name.startswith(RAW)}
    if not raw:
        return {}
    weights: Mapping[str, float] = pl_module.criterion.weights  # type: ignore[union-attr, assignment]
    values = torch.stack(list(raw.values())).tolist()
    return {f"{WEIGHTED}{term}": weights[term] * value for term, value in zip(raw, values, strict=True)}


#: key of a checkpoint: W&B's step count
WANDB_STEP = "wandb_step"


class StepLog(L.Callback):
    """Log ``train/...`` of every ``log_every_n_steps``-th step.

    Lightning itself logs a step after its checkpoint is written: a run killed in between would lose the row. The rows are the same as
    Lightning's, numbered from 0.

    W&B counts its log calls, and a resumed offline run starts from 0 in a new file. The count therefore continues from the checkpoint's, so
    that the files, which ``wandb sync`` uploads in order, are equivalent to the file of an uninterrupted run.
    """

    def __init__(self) -> None:
        self._wandb_step = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for run in wandb_runs(trainer):
            if run.step < self._wandb_step:  # online, W&B knows the count
                run.log({}, step=self._wandb_step, commit=False)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (batch_idx + 1) % trainer.accumulate_grad_batches or step % every:
            return
        row = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=step - 1)
            logger.save()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        for run in wandb_runs(trainer):
            checkpoint[WANDB_STEP] = run.step

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._wandb_step = checkpoint.get(WANDB_STEP, 0)
