"""A single training step in a file: its batches, the weights before it, and what is needed to recompute it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cis_seg.checkpoints.reading import load_file
from cis_seg.errors import CheckpointError
from cis_seg.runtime.atomic_files import write_atomically
from cis_seg.structures import Batch, Target

#: keys of a step's file besides those of a checkpoint (``state_dict``, ``cis_seg``)
STEP, PRECISION, BATCHES = "step", "precision", "batches"


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
