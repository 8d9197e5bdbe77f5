"""How checkpoint files are written and read: whole or not at all, the one before kept, checked on the way in."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from cis_seg.checkpoints.reading import LAST, PREVIOUS, load_file
from cis_seg.runtime.atomic_files import PARTIAL, patiently, write_atomically


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to checkpoint files: atomic, patient with a full disk, weights-only.

    Writing ``last.ckpt`` keeps the file it replaces as ``previous.ckpt``. A file's parts carry CRC-32 sums (it is a zip archive), which
    ``load_file`` checks.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None) -> None:
        """Writes ``checkpoint``; waits while the disk is full."""
        target, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)  # in memory first, because torch's own writer hides why a disk refused it
        content = buffer.getbuffer()
        target.parent.mkdir(parents=True, exist_ok=True)
        keep = (lambda: _keep_previous(target)) if target.name == LAST else None
        patiently(lambda: write_atomically(target, content, before_rename=keep), target, len(content))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint's content on the CPU.

        Raises:
            CheckpointError: missing or damaged.
        """
        return load_file(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Deletes the file, if it is there."""
        Path(path).unlink(missing_ok=True)


def _keep_previous(last: Path) -> None:
    """Gives the file at ``last`` a second name; where the file system has no links it is renamed, and ``last`` missing for a moment."""
    spare = last.with_name(PREVIOUS + PARTIAL)
    spare.unlink(missing_ok=True)
    if not last.is_file():
        return
    try:
        os.link(last, spare)
    except OSError:
        spare = last
    os.replace(spare, last.with_name(PREVIOUS))
