"""A progress line with the step, the losses and the speed."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

#: seconds between two lines if the output is not a terminal (a log file, CI)
SECONDS_BETWEEN_LINES = 30.0
#: without tqdm's own rate, which includes validation; the most important fields come first, for narrow terminals
BAR = "{n_fmt}/{total_fmt} {bar:10} {remaining} left | {postfix}"
#: seconds between two updates in a terminal
SECONDS_BETWEEN_UPDATES = 0.5


class StepProgress(ProgressBar):
    """A single tqdm line over all steps in a terminal; otherwise a plain line every ``SECONDS_BETWEEN_LINES``."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._terminal = sys.stderr.isatty()
        self._enabled = True
        self._last_time = 0.0
        self._last_step = 0

    def disable(self) -> None:
        """Print nothing; Lightning calls this on every rank except 0."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_time, self._last_step = time.monotonic(), trainer.global_step
        if self._enabled and self._terminal:
            self._bar = tqdm(total=trainer.max_steps, initial=trainer.global_step, dynamic_ncols=True, bar_format=BAR)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, now = trainer.global_step, time.monotonic()
        wait = SECONDS_BETWEEN_UPDATES if self._terminal else SECONDS_BETWEEN_LINES
        if not self._enabled or (now - self._last_time < wait and step < trainer.max_steps) or step == self._last_step:
            return
        images = (step - self._last_step) * trainer.datamodule.batch_size / (now - self._last_time)  # type: ignore[attr-defined]
        text = f"{images:.1f} images/s | {_losses(trainer)}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        else:
            print(f"step {step}/{trainer.max_steps} | {text}", file=sys.stderr, flush=True)
        self._last_time, self._last_step = now, step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_time, self._last_step = time.monotonic(), trainer.global_step
        for kind, name in (("segm", "mask"), ("bbox", "box")):
            ap, ap50 = (trainer.callback_metrics.get(f"val/{kind}_{key}") for key in ("AP", "AP50"))
            if self._enabled and ap is not None and ap50 is not None:
                tqdm.write(f"step {trainer.global_step}: validation {name} AP {ap:.1f}, AP50 {ap50:.1f}", file=sys.stderr)
                return

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _losses(trainer: L.Trainer) -> str:
    metrics = trainer.callback_metrics
    total = metrics.get("train/loss")
    parts = [f"{name.removeprefix('train/loss_')} {value:.2f}" for name, value in metrics.items() if name.startswith("train/loss_")]
    return f"loss {total:.2f} ({' '.join(parts)})" if total is not None else "loss -"
