"""Steps whose loss or gradient is no number: left out, written down, counted; and steps whose loss stands out, told."""

from __future__ import annotations

import logging
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cis_seg.callbacks.bad_step_report import FOLDER, write_report
from cis_seg.callbacks.loss_spikes import LossSpikes
from cis_seg.callbacks.metric_names import GRADIENT_NORM, SKIPPED_STEPS
from cis_seg.callbacks.watched_step import WatchedStep
from cis_seg.errors import RunError
from cis_seg.ops.processes import mean_over_processes
from cis_seg.structures import Batch

log = logging.getLogger(__name__)


class BadSteps(L.Callback):
    """Leaves a step out whose loss or gradient is not finite, in all processes if in any.

    Weights, the optimiser's state and the norms' running statistics stay as before it, bit by bit. The stream of images and the learning
    rate go on as if it had counted: both depend on the step's number alone, so that nothing else changes for the steps after it.

    On a GPU the host does not wait: the flag is computed there, the fused optimiser obeys it there (``optim.make_optimizer``), and the
    figures are read a step later, when the weights are still those of the bad step. On a CPU waiting costs nothing. With
    ``precision=16-mixed`` the scaler looks for overflows by itself; they are counted here too, and some at the start are its way to find
    its scale.

    A bad step is written down (``bad_step_report``). Logs ``train/grad_norm``, before clipping, and ``train/skipped_steps`` so far.

    Args:
        max_in_row: bad steps after which the run stops.

    Raises:
        RunError: so many bad steps in a row.
    """

    def __init__(self, max_in_row: int) -> None:
        self.max_in_row = max_in_row
        self.skipped, self.in_row = 0, 0
        self._spikes = LossSpikes()
        self._statistics: list[Tensor] = []
        self._count = torch.tensor(0.0)
        self._step: WatchedStep | None = None  # under way
        self._judged: tuple[WatchedStep, L.Trainer, L.LightningModule] | None = None  # done, its figures on their way

    def state_dict(self) -> dict[str, int]:
        """Counts of a checkpoint, the step before it included."""
        self._settle()
        return {"skipped": self.skipped, "in_row": self.in_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on with a checkpoint's counts; one that was written as the run gave up leaves it one more try."""
        self.skipped, self.in_row = state_dict["skipped"], min(state_dict["in_row"], self.max_in_row - 1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        norms = [module for module in pl_module.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self._count = torch.tensor(float(self.skipped), device=pl_module.device)
        self._step, self._judged = None, None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
        if self._step is None:
            self._step = WatchedStep(trainer.global_step + 1, trainer.optimizers[0].param_groups[0]["lr"], self._statistics)
        self._step.batches.append(batch)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        assert self._step is not None
        self._step.sums.append(loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        self._settle()  # before this step changes the weights that the one before may have to write down
        self._stop_if_hopeless(trainer)
        step = self._step
        assert step is not None
        norm = get_total_norm(_gradients(optimizer))
        whole = norm.isfinite() & torch.stack(step.sums).isfinite().all()
        bad = (mean_over_processes((~whole).float()) > 0).float()
        _leave_out(optimizer, bad)
        step.judge(bad, norm)
        self._count = self._count + bad
        pl_module.log_dict({GRADIENT_NORM: norm, SKIPPED_STEPS: self._count}, logger=False)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        step = self._step
        assert step is not None
        step.losses.append({"loss": outputs["loss"], **outputs["losses"]})
        if trainer.global_step < step.number:  # micro-batches are to come
            return
        step.send()
        self._judged, self._step = (step, trainer, pl_module), None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._settle()
        self._stop_if_hopeless(trainer)

    def _settle(self) -> None:
        """Reads the figures of the last step and does what they ask for."""
        if self._judged is None:
            return
        (step, trainer, module), self._judged = self._judged, None
        figures = step.receive()
        loss = fmean(part["loss"] for part in figures.losses)
        if not figures.bad:
            self.in_row = 0
            if (warning := self._spikes.look(step.number, loss, step.image_ids)) is not None:
                log.warning(warning)
            return
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        report = write_report(step, figures, self.skipped, trainer, module)
        message = "step %d is left out: its loss is %.4g, its gradient's norm %.4g; images %s; see %s"
        log.warning(message, step.number, loss, figures.gradient_norm, ", ".join(map(str, step.image_ids)), report)

    def _stop_if_hopeless(self, trainer: L.Trainer) -> None:
        if self.in_row < self.max_in_row:
            return
        half = "train in another precision (trainer.precision=bf16-mixed or 32-true); " if trainer.precision.startswith("16") else ""
        clip = "" if trainer.gradient_clip_val else "; clip the gradient with optim.clip_norm=10"
        raise RunError(
            f"{self.in_row} training steps in a row gave a loss or a gradient that is no number",
            where=Path(trainer.default_root_dir) / FOLDER,
            expected=f"finite losses and gradients in one of {self.max_in_row} steps (optim.max_bad_steps)",
            remedy=f"{half}lower optim.lr or warm up longer (optim.warmup_steps){clip}; see where it begins with python -m cis_seg.replay "
            "FILE.pt; nothing of these steps is in the weights: with the cause gone (an image, a device) resume=true goes on, with "
            "other options a new run does, from a copy of last.ckpt: name=ANOTHER init_from=COPY",
        )


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _leave_out(optimizer: Optimizer, bad: Tensor) -> None:
    """Makes the optimiser's coming step do nothing where ``bad`` is 1."""
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # what torch's gradient scaler sets, for the kernel to read
    elif bad:
        optimizer.zero_grad(set_to_none=True)  # a parameter without a gradient is passed over, with its state
