"""Checkpoint files for Lightning: written atomically, with the previous one kept, and checked when read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from cis_seg.checkpoints.reading import LAST, PREVIOUS, load_file
from cis_seg.runtime.atomic_files import PARTIAL, retry_while_disk_full, write_atomically


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically, waits while the disk is full, and loads tensors and plain containers only.

    ``last.ckpt`` is kept as ``previous.ckpt`` when a new one replaces it. A checkpoint is a zip archive, whose CRC-32 checksums
    ``load_file`` verifies.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``; wait while the disk is full."""
        target, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)  # in memory first, because torch's file writer hides the errno of a failed write
        content = buffer.getbuffer()
        target.parent.mkdir(parents=True, exist_ok=True)
        keep = (lambda: _keep_previous(target)) if target.name == LAST else None
        retry_while_disk_full(lambda: write_atomically(target, content, before_rename=keep), target, len(content))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint's content, with its tensors on the CPU.

        Raises:
            CheckpointError: the file is missing or corrupt.
        """
        return load_file(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete the file if it exists."""
        Path(path).unlink(missing_ok=True)


def _keep_previous(last: Path) -> None:
    """Link ``last`` as ``previous.ckpt``. On a file system without links it is renamed, and ``last`` is missing for a moment."""
    spare = last.with_name(PREVIOUS + PARTIAL)
    spare.unlink(missing_ok=True)
    if not last.is_file():
        return
    try:
        os.link(last, spare)
    except OSError:
        spare = last
    os.replace(spare, last.with_name(PREVIOUS))
