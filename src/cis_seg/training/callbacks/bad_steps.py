"""Steps whose loss or gradient is no number: left out, written down, counted; and steps whose loss stands out, told."""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cis_seg.errors import RunError
from cis_seg.runtime.atomic_files import write_atomically
from cis_seg.runtime.collectives import mean_over_processes
from cis_seg.runtime.compat import skip_if
from cis_seg.structures import Batch
from cis_seg.training.callbacks.metric_names import GRADIENT_NORM, SKIPPED_STEPS
from cis_seg.training.step_file import SavedStep, save_step

#: because of 1,000 steps that our own runs logged none was above 1.2 times the median before it
FACTOR = 3.0
WINDOW = 100  # steps whose median counts
LEAST = 20  # steps before which nothing stands out
PAUSE = 100  # steps between two warnings


class LossSpikes:
    """Compares each step's loss with the median of the steps before it."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._silent_until, self._untold = 0, 0

    def look(self, step: int, loss: float, image_ids: Sequence[int]) -> str | None:
        """The warning about ``step``, if it is due; ``loss`` is finite."""
        usual = median(self._recent) if len(self._recent) >= LEAST else loss
        self._recent.append(loss)
        if loss <= FACTOR * usual:
            return None
        if step < self._silent_until:
            self._untold += 1
            return None
        also = f"; so were {self._untold} more since the last warning" if self._untold else ""
        self._silent_until, self._untold = step + PAUSE, 0
        ids = ", ".join(map(str, image_ids))
        return f"step {step}: the loss {loss:.4g} is more than {FACTOR:g} times the recent median {usual:.4g} (images {ids}){also}"


FOLDER = "bad_steps"  # in the run's
#: steps whose batch and weights a run keeps; because those in a row have the same weights, and an R50's take 150 MB each time
KEPT = 3
#: norms with running statistics
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def write_report(step: WatchedStep, figures: Figures, skipped: int, trainer: L.Trainer, module: L.LightningModule) -> Path:
    """Writes ``bad_steps/step<number>.json`` and, for the first ``KEPT`` of a run, ``.pt`` (see ``step_file``); returns the former.

    Several processes write one each, ``step<number>_rank<rank>``. A disk that refuses them does not end the run.

    Args:
        step: the step, of this process.
        figures: of it.
        skipped: bad steps so far.
        trainer, module: as they were when the step began.
    """
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    folder, card = Path(trainer.default_root_dir) / FOLDER, module.card
    path = folder / f"step{step.number:06d}{rank}.json"
    report = {
        "step": step.number,
        "seed": card["config"]["seed"],  # type: ignore[index]
        "precision": trainer.precision,
        "learning_rate": step.lr,
        "skipped_steps": skipped,
        **asdict(figures),
        "images": list(_images(step, trainer)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob(f"step{'[0-9]' * 6}{rank}.pt"))) < KEPT:
            saved = SavedStep(step.number, trainer.precision, tuple(step.batches))
            save_step(path.with_suffix(".pt"), saved, module.state_dict(), card)  # type: ignore[arg-type]
            report["reproduce"] = f"python -m cis_seg.replay {shlex.quote(str(path.with_suffix('.pt')))}"
        write_atomically(path, (json.dumps(_written(report), indent=2) + "\n").encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
    return path


def _images(step: WatchedStep, trainer: L.Trainer) -> Iterator[dict[str, Any]]:
    """Id, place in the stream and file of every image of the step."""
    dataset: Any = trainer.datamodule.train_dataset  # type: ignore[attr-defined]
    for part, batch in enumerate(step.batches):
        for image_id, position in zip(batch.image_ids, batch.positions, strict=True):
            index = int(np.flatnonzero(dataset.records.image_ids == image_id)[0])
            yield {"micro_batch": part, "id": image_id, "position": position, "file": str(dataset.path(index))}


def _written(value: Any) -> Any:
    """For JSON, which has no NaN: as text."""
    if isinstance(value, list):
        return [_written(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _written(entry) for name, entry in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Figures:
    """What a step amounted to, on the host."""

    bad: bool
    gradient_norm: float  # before clipping
    losses: list[dict[str, float]]  # of each micro-batch: the weighted sum under ``loss``, and its raw terms


class WatchedStep:
    """What is known of a step; its tensors stay on the device.

    Args:
        number: counted from 1.
        lr: its learning rate.
        statistics: what its forward pass changes beside the weights: running statistics of norms.
    """

    def __init__(self, number: int, lr: float, statistics: list[Tensor]) -> None:
        self.number, self.lr = number, lr
        self._statistics = [(buffer, buffer.clone()) for buffer in statistics]
        self.batches: list[Batch] = []
        self.losses: list[dict[str, Tensor]] = []
        self.sums: list[Tensor] = []  # what each backward pass begins with
        self._judged = torch.zeros(2)
        self._host: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    @property
    def image_ids(self) -> list[int]:
        """Of all micro-batches."""
        return [image_id for batch in self.batches for image_id in batch.image_ids]

    def judge(self, bad: Tensor, gradient_norm: Tensor) -> None:
        """Keeps whether the step is bad (1) or not (0) and its norm, two scalars; a bad step's statistics are taken back."""
        self._judged = torch.stack([bad, gradient_norm.float()])
        for buffer, before in self._statistics if bad.is_cuda or bad else ():
            buffer.copy_(torch.where(bad > 0, before, buffer))

    def send(self) -> None:
        """Begins the one copy to the host; nobody waits for it."""
        losses = [value.float() for part in self.losses for value in part.values()]
        values = torch.cat([self._judged, torch.stack(losses)])
        self._host = values.to("cpu", non_blocking=True)
        if values.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def receive(self) -> Figures:
        """The figures; a step later the copy is long done."""
        if self._copied is not None:
            self._copied.synchronize()
        assert self._host is not None
        bad, norm, *losses = self._host.tolist()
        values = iter(losses)
        return Figures(bad > 0, norm, [{name: next(values) for name in part} for part in self.losses])


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
        norms = [module for module in pl_module.modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats]
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
        skip_if(optimizer, bad)
    elif bad:
        optimizer.zero_grad(set_to_none=True)  # a parameter without a gradient is passed over, with its state
