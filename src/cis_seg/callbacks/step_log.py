"""What a training step logs, before the checkpoint of that step is written; and W&B's own count of steps."""

from __future__ import annotations

from typing import Any

import lightning as L

from cis_seg.callbacks.dashboard import wandb_runs

#: where a checkpoint keeps W&B's count
WANDB_STEP = "wandb_step"


class StepLog(L.Callback):
    """Hands ``train/...`` of every ``log_every_n_steps``-th step to the loggers.

    Lightning's own logging of a step comes after the checkpoint of that step is written: a run that was killed in between would miss the
    row for good. The rows are those of Lightning, numbered from 0.

    W&B counts what it is given, and an offline run that is continued starts from 0 in a file of its own. The count goes on from the
    checkpoint's, so that the files together, which ``wandb sync`` uploads in order, say what one would.
    """

    def __init__(self) -> None:
        self._wandb_step = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for run in wandb_runs(trainer):
            if run.step < self._wandb_step:  # online, W&B knows it
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
