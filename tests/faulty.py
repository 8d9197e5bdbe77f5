"""Faults for small runs, as callbacks that a config can name, and the comparison of what two runs left behind."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

#: of the log: what a clock or the machine's memory decides
MEASURED = ("speed/", "memory/")


class Send(L.Callback):
    """Sends this process a signal: in the middle of a training step, or of the validation after it."""

    def __init__(self, step: int, signum: int = signal.SIGTERM, validating: bool = False) -> None:
        self.step, self.signum, self.validating = step, signum, validating

    def on_before_backward(self, trainer: L.Trainer, *args: object) -> None:
        self._send(trainer.global_step == self.step - 1 and not self.validating)

    def on_validation_batch_start(self, trainer: L.Trainer, *args: object) -> None:
        self._send(trainer.global_step == self.step and self.validating)

    def _send(self, now: bool) -> None:
        if now and self.signum:
            os.kill(os.getpid(), self.signum)
            self.signum = 0


class Slow(L.Callback):
    """Makes every step from ``step`` on take longer."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.seconds = step, seconds

    def on_before_backward(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step >= self.step - 1:
            time.sleep(self.seconds)


def sends(step: int, signum: int = signal.SIGTERM, *, validating: bool = False) -> tuple[str, ...]:
    """The overrides that add ``Send`` to a run."""
    options = {"_target_": "faulty.Send", "step": step, "signum": int(signum), "validating": validating}
    return tuple(f"+callbacks.send.{key}={value}" for key, value in options.items())


def rows_of(run: Path) -> list[dict[str, str]]:
    """The run's log without what is measured, row by row."""
    with (run / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value and not key.startswith(MEASURED)} for row in csv.DictReader(file)]


def state_of(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """What a checkpoint says that must not depend on how often its run was stopped: all but the config and the files' places."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / name, map_location="cpu", weights_only=True)
    del content["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]  # Lightning counts a repeated validation twice, for no use
    best = next(state for key, state in content["callbacks"].items() if key.startswith("BestCheckpoint"))
    kept = {key: content[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "loops")}
    if name != "last.ckpt":
        del kept["loops"]  # a repeated validation ends with other counters than one within the loop, and both are understood
    return kept | {"best": best["best_model_score"]}


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nested containers of tensors and numbers differ; tensors bit by bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [found for index, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{path}/{index}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if type(one) is type(other) and one == other:
        return []
    shown = [f"{len(side)} entries" if isinstance(side, dict | list | tuple) else str(side) for side in (one, other)]
    return [f"{path}: {shown[0]}, not {shown[1]}"]


def compared(run: Path, whole: Path) -> list[str]:
    """Everything in which ``run`` differs from one that nothing happened to: both checkpoints, the log, the scores."""
    found = [f"{name}{d}" for name in ("last.ckpt", "best.ckpt") for d in differences(state_of(run, name), state_of(whole, name))]
    found += [f"metrics.csv{d}" for d in differences(rows_of(run), rows_of(whole))]
    return found + ([] if (run / "metrics.json").read_text() == (whole / "metrics.json").read_text() else ["metrics.json"])
