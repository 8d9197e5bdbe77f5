"""Skipping of steps with a non-finite loss or gradient, and warnings about loss spikes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cis_seg.errors import RunError
from cis_seg.runtime.collectives import mean_over_processes
from cis_seg.runtime.compat import skip_if
from cis_seg.structures import Batch
from cis_seg.training.metrics import GRADIENT_NORM, SKIPPED_STEPS
from cis_seg.training.skipped_step import FOLDER, WatchedStep, write_report

#: norms with running statistics
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
#: a loss this many times the recent median is a spike; in 1,000 logged steps of our own runs none exceeded 1.2 times the median
FACTOR = 3.0
WINDOW = 100  # steps of the median
LEAST = 20  # steps before the first warning
PAUSE = 100  # steps between two warnings


class LossSpikes:
    """Compares the loss of each step with the median of the steps before it."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._silent_until, self._unreported = 0, 0

    def look(self, step: int, loss: float, image_ids: Sequence[int]) -> str | None:
        """Return the warning about ``step`` if one is due; ``loss`` is finite."""
        usual = median(self._recent) if len(self._recent) >= LEAST else loss
        self._recent.append(loss)
        if loss <= FACTOR * usual:
            return None
        if step < self._silent_until:
            self._unreported += 1
            return None
        also = f"; {self._unreported} more since the last warning" if self._unreported else ""
        self._silent_until, self._unreported = step + PAUSE, 0
        ids = ", ".join(map(str, image_ids))
        return f"step {step}: the loss {loss:.4g} is more than {FACTOR:g} times the recent median {usual:.4g} (images {ids}){also}"


log = logging.getLogger(__name__)


class BadSteps(L.Callback):
    """Skip a step with a non-finite loss or gradient, in all processes if it occurs in any.

    Weights, their running average, optimiser state and running statistics stay bit-identical to those before the step. The stream of
    images and the learning rate advance as usual: they depend only on the number of the step, so that the following steps are unaffected.

    The host does not wait for a GPU: the flag is computed on the device, the fused optimiser reads it there (``optim.make_optimizer``), and
    the metrics are read one step later, when the weights are still those of the bad step. With ``precision=16-mixed`` the gradient scaler
    detects overflows itself; they are counted here too, and a few at the start are normal while it adjusts its scale.

    Writes a report of each bad step (``write_report``). Logs ``train/grad_norm``, before clipping, and ``train/skipped_steps`` so far.

    Args:
        max_in_row: number of consecutive bad steps that stops the run.

    Raises:
        RunError: ``max_in_row`` consecutive bad steps.
    """

    def __init__(self, max_in_row: int) -> None:
        self.max_in_row = max_in_row
        self.skipped, self.in_row = 0, 0
        self._spikes = LossSpikes()
        self._statistics: list[Tensor] = []
        self._count = torch.tensor(0.0)
        self._step: WatchedStep | None = None  # in progress
        self._sent: tuple[WatchedStep, L.Trainer, L.LightningModule] | None = None  # completed, its metrics not read yet

    def state_dict(self) -> dict[str, int]:
        """Return the counts, including the step before the checkpoint."""
        self._settle()
        return {"skipped": self.skipped, "in_row": self.in_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the counts; after a run that was aborted here, one more step is tried."""
        self.skipped, self.in_row = state_dict["skipped"], min(state_dict["in_row"], self.max_in_row - 1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        norms = [module for module in pl_module.modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self._count = torch.tensor(float(self.skipped), device=pl_module.device)
        self._step, self._sent = None, None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
        if self._step is None:
            self._step = WatchedStep(trainer.global_step + 1, trainer.optimizers[0].param_groups[0]["lr"], self._statistics)
        self._step.batches.append(batch)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        assert self._step is not None
        self._step.sums.append(loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        self._settle()  # before this step changes the weights that a report of the previous step needs
        self._abort_after_max_skips(trainer)
        step = self._step
        assert step is not None
        norm = get_total_norm(_gradients(optimizer))
        finite = norm.isfinite() & torch.stack(step.sums).isfinite().all()
        bad = (mean_over_processes((~finite).float()) > 0).float()
        skip_if(optimizer, bad)
        step.judge(bad, norm)
        pl_module.skipped = bad
        self._count = self._count + bad
        pl_module.log_dict({GRADIENT_NORM: norm, SKIPPED_STEPS: self._count}, logger=False)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        step = self._step
        assert step is not None
        step.losses.append({"loss": outputs["loss"], **outputs["losses"]})
        if trainer.global_step < step.number:  # more micro-batches follow
            return
        step.send()
        self._sent, self._step = (step, trainer, pl_module), None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle()
        self._abort_after_max_skips(trainer)

    def _settle(self) -> None:
        """Read the metrics of the last step; count and report it if it is bad, warn if its loss is a spike."""
        if self._sent is None:
            return
        (step, trainer, module), self._sent = self._sent, None
        metrics = step.receive()
        loss = fmean(part["loss"] for part in metrics.losses)
        if not metrics.bad:
            self.in_row = 0
            if (warning := self._spikes.look(step.number, loss, step.image_ids)) is not None:
                log.warning(warning)
            return
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        report = write_report(step, metrics, self.skipped, trainer, module)
        message = "step %d is skipped: loss %.4g, gradient norm %.4g; images %s; see %s"
        log.warning(message, step.number, loss, metrics.gradient_norm, ", ".join(map(str, step.image_ids)), report)

    def _abort_after_max_skips(self, trainer: L.Trainer) -> None:
        if self.in_row < self.max_in_row:
            return
        half = "train in another precision (trainer.precision=bf16-mixed or 32-true); " if trainer.precision.startswith("16") else ""
        clip = "" if trainer.gradient_clip_val else "; clip the gradient with optim.clip_norm=10"
        raise RunError(
            f"{self.in_row} training steps in a row had a non-finite loss or gradient",
            where=Path(trainer.default_root_dir) / FOLDER,
            expected=f"at least one finite step in {self.max_in_row} (optim.max_bad_steps)",
            remedy=f"{half}lower optim.lr or warm up longer (optim.warmup_steps){clip}; python -m cis_seg.replay FILE.pt shows where the "
            "first non-finite value appears. The weights are unaffected: once the cause (an image, a device) is removed, continue with "
            "resume=true; with other options start a new run from a copy of last.ckpt: name=ANOTHER init_from=COPY",
        )


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
