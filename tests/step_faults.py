"""Callbacks that spoil a training step, or the processes that read its images; ``spoils`` adds one to a run."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import torch
from torch import Tensor

NAN = float("nan")


class PoisonedLoss(L.Callback):
    """Makes a loss term NaN in the first micro-batch of each of the steps ``steps``, in the process ``rank``."""

    def __init__(self, steps: list[int], rank: int = 0) -> None:
        self.steps, self.rank = set(steps), rank

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        losses = pl_module.losses

        def poisoned(batch: Any, *, step: int) -> dict[str, Tensor]:
            found: dict[str, Tensor] = losses(batch, step=step)  # type: ignore[operator]
            if step in self.steps and trainer.global_rank == self.rank:
                self.steps.remove(step)
                found["loss_cls"] = found["loss_cls"] * NAN
            return found

        pl_module.losses = poisoned  # type: ignore[assignment]


class PoisonedGradient(L.Callback):
    """Makes one gradient infinite, after all processes have shared theirs; the losses are sound."""

    def __init__(self, steps: list[int], rank: int = 0) -> None:
        self.steps, self.rank = set(steps), rank

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step + 1 in self.steps and trainer.global_rank == self.rank:
            trainer.optimizers[0].param_groups[0]["params"][0].grad.fill_(float("inf"))


class PoisonedWeights(L.Callback):
    """Makes a weight NaN from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step:
            with torch.no_grad():
                pl_module.model.backbone.layer2[0].conv1.weight[0] = NAN  # type: ignore[union-attr, index]


class SignalledReader(L.Callback):
    """Sends ``signum`` to every process that reads training images, after the step ``step``: SIGKILL ends them, SIGSTOP makes them hang."""

    def __init__(self, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            readers: Any = trainer.train_dataloader
            for reader in readers._iterator._workers:
                os.kill(reader.pid, self.signum)


def spoils(kind: str, **options: Any) -> tuple[str, ...]:
    """The overrides that add one of these callbacks to a run."""
    return f"+callbacks.fault._target_=step_faults.{kind}", *(
        f"+callbacks.fault.{key}={value}".replace(" ", "") for key, value in options.items()
    )
