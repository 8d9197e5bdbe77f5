"""Profiling of training steps: a trace, and a table of the time per part of the network."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function, schedule

#: modules of the network that are timed separately; the rest of a step's forward and backward pass is mask head and losses
PARTS = {"backbone": "backbone", "neck": "neck", "head": "head", "mask_branch": "mask branch"}
REST = "mask head and losses"
FORWARD, OPTIMISER = "forward", "optimiser"
#: the profiler's name prefix for a node of the backward graph
NODE = "autograd::engine::evaluate_function: "


class StepProfile(L.Callback):
    """Record some steps after a warm-up, then write ``trace.json`` and print the time of a step per part of the network.

    A node of the backward graph is attributed to the part whose forward pass created it: both have the same sequence number.

    Args:
        folder: folder of the trace.
        skip: steps before the first recorded one, in which libraries select their kernels.
        steps: number of recorded steps.
        console: console of the table; None: the error stream.
    """

    def __init__(self, folder: str, *, skip: int = 3, steps: int = 3, console: Console | None = None) -> None:
        self.folder, self.skip, self.steps = Path(folder), skip, steps
        self.console = console or Console(stderr=True)
        self._profile: profile | None = None
        self._stage: record_function | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:  # one trace, of one process
            return
        for name, label in PARTS.items():
            _label(getattr(pl_module.model, name), label)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=self.skip, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=self._report,
        )
        self._profile.start()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._begin(FORWARD)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor) -> None:
        self._end()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        self._begin(OPTIMISER)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._end()
        if self._profile is not None:
            self._profile.step()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _begin(self, stage: str) -> None:
        self._stage = record_function(stage)
        self._stage.__enter__()

    def _end(self) -> None:
        if self._stage is not None:
            self._stage.__exit__(None, None, None)
            self._stage = None

    def _report(self, recorded: profile) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        trace = self.folder / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = recorded.events()
        times = time_by_part(list(events) if events is not None else [])
        table = Table(title=f"time of a training step by part, mean of {self.steps}")
        for column in ("part", "forward ms", "backward ms", "share"):
            table.add_column(column, justify="left" if column == "part" else "right")
        total = max(sum(map(sum, times.values())), 1e-9)
        for part, (forward, backward) in times.items():
            values = (f"{forward / self.steps / 1000:.1f}", f"{backward / self.steps / 1000:.1f}", f"{(forward + backward) / total:.0%}")
            table.add_row(part, *values)
        self.console.print(table)
        self.console.print(f"open {trace} in https://ui.perfetto.dev or chrome://tracing", highlight=False, soft_wrap=True)


def _label(module: torch.nn.Module, label: str) -> None:
    """Label the module's forward pass in the trace."""
    running: list[Any] = []

    def begin(*_: Any) -> None:
        running.append(record_function(label))
        running[-1].__enter__()

    def end(*_: Any) -> None:
        running.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end)


def time_by_part(events: list[FunctionEvent]) -> dict[str, tuple[float, float]]:
    """Return forward and backward microseconds of every part, device time if there is a device; the optimiser counts as forward."""
    duration = _duration(events)
    parts = [e for e in events if e.name in PARTS.values()]
    stage = {name: sum(duration(e) for e in events if e.name == name) for name in (FORWARD, OPTIMISER)}
    forward = {label: sum(duration(e) for e in parts if e.name == label) for label in PARTS.values()}
    forward[REST] = stage[FORWARD] - sum(forward.values())
    owner = _owners(events, parts)
    backward = dict.fromkeys(forward, 0.0)
    for event in events:
        if event.name.startswith(NODE):
            backward[owner(event)] += duration(event)
    return {label: (forward[label], backward[label]) for label in forward} | {OPTIMISER: (stage[OPTIMISER], 0.0)}


def _duration(events: list[FunctionEvent]) -> Callable[[FunctionEvent], float]:
    """Return a function for the microseconds of an event with its children; device time if any event has some."""
    on_device = any(e.device_time_total for e in events)
    return lambda event: float(event.device_time_total if on_device else event.cpu_time_total)


def _owners(events: list[FunctionEvent], parts: list[FunctionEvent]) -> Callable[[FunctionEvent], str]:
    """Return a function from a node of the backward graph to the part whose forward pass created it.

    Sequence numbers increase within the thread of the forward pass. A node was created by the operation with the same number, and that
    operation belongs to the labelled interval that contains its start.
    """
    spans = sorted((p.time_range.start, p.time_range.end, p.name) for p in parts)
    begins = [start for start, _, _ in spans]
    threads = {p.thread for p in parts}
    started: dict[int, float] = {}
    for event in events:
        if event.sequence_nr >= 0 and event.thread in threads and not event.name.startswith(NODE):
            started.setdefault(event.sequence_nr, event.time_range.start)

    def owner(node: FunctionEvent) -> str:
        moment = started.get(node.sequence_nr, -1.0)
        index = bisect_right(begins, moment) - 1
        return spans[index][2] if index >= 0 and moment <= spans[index][1] else REST

    return owner
