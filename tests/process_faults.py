"""Callbacks that make one process of several fail; a run takes them as ``+callbacks.fault._target_=process_faults.Fault``."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import lightning as L

from cis_seg.errors import DataError


class Fault(L.Callback):
    """At the end of a step, in one process; the file ``touch`` in the run's folder says when, and holds the process's id.

    Args:
        kind: ``kill`` (SIGKILL), ``raise`` (an exception that is ours) or ``refuse`` (one for the user).
        rank: of the process.
        step: of the training.
    """

    def __init__(self, kind: str, rank: int = 1, step: int = 3) -> None:
        self.kind, self.rank, self.step = kind, rank, step

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step != self.step or trainer.global_rank != self.rank:
            return
        Path(trainer.default_root_dir, "touch").write_text(str(os.getpid()))
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "raise":
            raise RuntimeError("the fault of the test")
        if self.kind == "refuse":
            raise DataError("the mistake of the test", where="annotations", remedy="mend them")


class Double(L.Callback):
    """Trains in float64, where a difference between two runs is one of the computation and not of its rounding."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pl_module.double()


def left_behind(mark: str) -> list[int]:
    """Processes of this machine, but for this one, that were started with ``mark`` (NAME=value) in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended since, or is somebody else's
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found
