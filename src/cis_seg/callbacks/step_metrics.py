"""What training costs and what each term contributes, for every logger: the rate, images a second, peak memory, weighted losses."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch

from cis_seg.callbacks.metric_names import LEARNING_RATE, PEAK_CUDA, PEAK_RSS, RAW, SPEED, WEIGHTED

GIGABYTE = 1e9
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # because getrusage counts bytes on macOS and kilobytes elsewhere


class StepMetrics(L.Callback):
    """Logs every ``log_every_n_steps`` steps, when Lightning brings the losses to the host anyway: nothing else waits for the device.

    ``speed/images_per_s`` counts the global batch since the last line, without validation. Lightning's own ThroughputMonitor
    synchronises the device in every step, and its LearningRateMonitor has a curve for each parameter group, of which ours share the rate.
    """

    def __init__(self) -> None:
        self._since, self._last_step, self._rate = 0.0, 0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]  # of this step: at its end the scheduler has set the next one's

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every or step == self._last_step:  # a micro-batch of an unfinished step changes nothing
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
    """This process's largest memory so far in 10^9 bytes: of the host, and of the GPU where it trains on one."""
    memory = {PEAK_RSS: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / GIGABYTE}
    return memory | ({PEAK_CUDA: torch.cuda.max_memory_allocated(device) / GIGABYTE} if device.type == "cuda" else {})


def weighted_losses(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
    """The terms as they enter the sum, from the raw ones that the module logged in this step: one copy to the host."""
    raw = {name.removeprefix(RAW): value for name, value in trainer.callback_metrics.items() if name.startswith(RAW)}
    if not raw:
        return {}
    weights: Mapping[str, float] = pl_module.criterion.weights  # type: ignore[union-attr, assignment]
    values = torch.stack(list(raw.values())).tolist()
    return {f"{WEIGHTED}{term}": weights[term] * value for term, value in zip(raw, values, strict=True)}
