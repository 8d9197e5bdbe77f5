"""A training step that may be skipped: observed for non-finite values, reported, and saved in a file that recomputes it."""

from __future__ import annotations

import io
import json
import logging
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from cis_seg.checkpoints import load_file
from cis_seg.errors import CheckpointError
from cis_seg.runtime.atomic_files import write_atomically
from cis_seg.structures import Batch, Target

#: keys of a step's file besides those of a checkpoint (``state_dict``, ``cis_seg``)
STEP, PRECISION, BATCHES = "step", "precision", "batches"
log = logging.getLogger(__name__)
#: folder of the reports in the run's folder
FOLDER = "bad_steps"
#: maximum number of steps per run that are kept with batch and weights: consecutive ones have the same weights, and an R50's take 150 MB
KEPT = 3


@dataclass(frozen=True)
class SavedStep:
    """The contents of a step's file besides the network."""

    step: int  # number of the step, from 1
    precision: str  # of the trainer
    batches: tuple[Batch, ...]  # one per micro-batch, of the process that wrote the file


def save_step(path: Path, saved: SavedStep, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write ``saved`` as tensors and plain containers; with ``state`` and ``metadata`` the file is also a checkpoint for ``init_from``.

    Args:
        path: the new file.
        saved: the step.
        state: all tensors of the ``CondInstModule``.
        metadata: the module's metadata.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        STEP: saved.step,
        PRECISION: saved.precision,
        BATCHES: [_plain(batch) for batch in saved.batches],
        "state_dict": dict(state),
        "cis_seg": dict(metadata),
    }
    file = io.BytesIO()
    torch.save(content, file)
    write_atomically(path, file.getbuffer())


def load_step(path: Path) -> tuple[SavedStep, dict[str, Any]]:
    """Return a step that ``save_step`` wrote, and the entire content of its file.

    Raises:
        CheckpointError: the file is missing or corrupt, or does not contain a step.
    """
    content = load_file(path)
    if not {STEP, PRECISION, BATCHES} <= content.keys():
        raise CheckpointError(
            f"{path} is not the file of a training step",
            expected=f"the keys {STEP}, {PRECISION} and {BATCHES}",
            found=", ".join(sorted(map(str, content))[:8]),
            remedy="pass a bad_steps/step*.pt of a run",
        )
    return SavedStep(content[STEP], content[PRECISION], tuple(_batch(plain) for plain in content[BATCHES])), content


def _plain(item: Batch | Target) -> dict[str, Any]:
    """Return the fields of ``item`` on the CPU; shared tensors stay shared."""
    moved = item.to("cpu")
    plain = {field.name: getattr(moved, field.name) for field in fields(moved)}
    return {name: [_plain(target) for target in value] if name == "targets" else value for name, value in plain.items()}


def _batch(plain: Mapping[str, Any]) -> Batch:
    targets: Sequence[Mapping[str, Any]] = plain["targets"]
    return Batch(**{**plain, "targets": tuple(Target(**target) for target in targets)})


@dataclass(frozen=True)
class StepMetrics:
    """The metrics of a step, on the host."""

    bad: bool
    gradient_norm: float  # before clipping
    losses: list[dict[str, float]]  # for each micro-batch: the weighted sum as ``loss``, and the raw terms


class WatchedStep:
    """The data of a step in progress; tensors stay on the device.

    Args:
        number: number of the step, from 1.
        lr: learning rate of the step.
        statistics: buffers that the forward pass changes: running statistics of the norms.
    """

    def __init__(self, number: int, lr: float, statistics: list[Tensor]) -> None:
        self.number, self.lr = number, lr
        self._statistics = [(buffer, buffer.clone()) for buffer in statistics]
        self.batches: list[Batch] = []
        self.losses: list[dict[str, Tensor]] = []
        self.sums: list[Tensor] = []  # the loss of each micro-batch
        self._verdict = torch.zeros(2)
        self._host: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    @property
    def image_ids(self) -> list[int]:
        """The image ids of all micro-batches."""
        return [image_id for batch in self.batches for image_id in batch.image_ids]

    def judge(self, bad: Tensor, gradient_norm: Tensor) -> None:
        """Record two scalars, whether the step is bad (1) or not (0) and its gradient norm; restore the statistics after a bad step."""
        self._verdict = torch.stack([bad, gradient_norm.float()])
        for buffer, before in self._statistics if bad.is_cuda or bad else ():
            buffer.copy_(torch.where(bad > 0, before, buffer))

    def send(self) -> None:
        """Start the only copy to the host, without waiting for it."""
        losses = [value.float() for part in self.losses for value in part.values()]
        values = torch.cat([self._verdict, torch.stack(losses)])
        self._host = values.to("cpu", non_blocking=True)
        if values.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def receive(self) -> StepMetrics:
        """Return the metrics; one step after ``send`` the copy has finished."""
        if self._copied is not None:
            self._copied.synchronize()
        assert self._host is not None
        bad, norm, *losses = self._host.tolist()
        values = iter(losses)
        return StepMetrics(bad > 0, norm, [{name: next(values) for name in part} for part in self.losses])


def write_report(step: WatchedStep, metrics: StepMetrics, skipped: int, trainer: L.Trainer, module: L.LightningModule) -> Path:
    """Write ``bad_steps/step<number>.json`` and, for the first ``KEPT`` of a run, ``.pt`` (see ``save_step``); return the json's path.

    Several processes write one each, ``step<number>_rank<rank>``. If the disk refuses a file, the run continues.

    Args:
        step: the step in this process.
        metrics: the step's metrics.
        skipped: bad steps so far.
        trainer: the trainer of the run.
        module: the module, with the weights before the step.
    """
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    folder, metadata = Path(trainer.default_root_dir) / FOLDER, module.metadata
    path = folder / f"step{step.number:06d}{rank}.json"
    report = {
        "step": step.number,
        "seed": metadata["config"]["seed"],  # type: ignore[index]
        "precision": trainer.precision,
        "learning_rate": step.lr,
        "skipped_steps": skipped,
        **asdict(metrics),
        "images": list(_images(step, trainer)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob(f"step{'[0-9]' * 6}{rank}.pt"))) < KEPT:
            saved = SavedStep(step.number, trainer.precision, tuple(step.batches))
            save_step(path.with_suffix(".pt"), saved, module.state_dict(), metadata)  # type: ignore[arg-type]
            report["reproduce"] = f"python -m cis_seg.replay {shlex.quote(str(path.with_suffix('.pt')))}"
        write_atomically(path, (json.dumps(_json_ready(report), indent=2) + "\n").encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
    return path


def _images(step: WatchedStep, trainer: L.Trainer) -> Iterator[dict[str, Any]]:
    """Yield id, position in the stream and file of every image of the step."""
    dataset: Any = trainer.datamodule.train_dataset  # type: ignore[attr-defined]
    for part, batch in enumerate(step.batches):
        for image_id, position in zip(batch.image_ids, batch.positions, strict=True):
            index = int(np.flatnonzero(dataset.records.image_ids == image_id)[0])
            yield {"micro_batch": part, "id": image_id, "position": position, "file": str(dataset.path(index))}


def _json_ready(value: Any) -> Any:
    """Return ``value`` with non-finite numbers as text, because JSON has none."""
    if isinstance(value, list):
        return [_json_ready(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _json_ready(entry) for name, entry in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
