"""The results as tables, JSON and plots, with the time of each part of a step by image size and number of people.

Legend: H W padded input.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from cis_seg.benchmark.measure import Measured
from cis_seg.benchmark.rows import Setting
from cis_seg.benchmark.step_rows import Step, negligible_sgd, our_module, random_network
from cis_seg.benchmark.textbook import scene
from cis_seg.config.schema import ModelConfig
from cis_seg.data.batches import padded_size
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.structures import Batch, DensePredictions

T = TypeVar("T")

#: in order; "masks" covers assignment, controller, mask head and all losses
PARTS = ("backbone", "pyramid", "head", "mask branch", "masks", "optimiser")
REPEATS = 3
#: rows of the table; shorter sides in pixels, the longer side is 4/3 of it
PEOPLE, SHORT_SIDES = (5, 20, 80, 320), (480, 800, 1333)
QUICK = ((2, 4), (64, 96))


@dataclass(frozen=True)
class Load:
    """The time of one training step by part."""

    size: tuple[int, int]  # (H, W)
    people: int  # per image
    ms: Mapping[str, float]  # medians, forward and backward together

    @property
    def total(self) -> float:
        """Total time of the step in ms."""
        return sum(self.ms.values())


class _Clock:
    """Accumulates wall time by name, synchronised with the device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ms = device, dict.fromkeys(PARTS, 0.0)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() * 1000

    def timed(self, name: str, work: Callable[[], T]) -> T:
        start = self.now()
        result = work()
        self.ms[name] += self.now() - start
        return result


def step_by_part(model: CondInst, batch: Batch, step: Step, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the milliseconds of each part in one step. The graph is cut between the parts, so that each has its own backward."""
    clock = _Clock(batch.pixels.device)
    optimizer.zero_grad()
    with torch.autocast(batch.pixels.device.type, dtype=torch.bfloat16, enabled=step.bf16):
        images = model.normalize(batch.pixels, batch.image_sizes)
        stages = clock.timed("backbone", lambda: model.backbone(images))
        stage_cut = {i: _cut(x) for i, x in stages.items()}
        levels = clock.timed("pyramid", lambda: model.neck(stage_cut))
        level_cut = {i: _cut(x) for i, x in levels.items()}
        heads = clock.timed("head", lambda: model.head([level_cut[i] for i in LEVELS]))
        feats = clock.timed("mask branch", lambda: model.mask_branch([level_cut[i] for i in range(model.finest_mask_level, LEVELS[2] + 1)]))
        cut = [_cut(x) for x in (*heads, feats)]
        cls_logits, ltrb, ctr_logits, tower_feats, mask_feats = cut
        dense = DensePredictions(cls_logits, ltrb, ctr_logits, tower_feats, mask_feats, model.grid(level_cut))
        losses = clock.timed("masks", lambda: our_module(model, step).losses_from(dense, batch, step=1))
    total = torch.stack([value for name, value in losses.items() if name.startswith("loss_")]).sum()
    clock.timed("masks", total.backward)
    for name, ends, cuts in (
        ("mask branch", [feats], cut[-1:]),
        ("head", heads, cut[:-1]),
        ("pyramid", list(levels.values()), list(level_cut.values())),
        ("backbone", list(stages.values()), list(stage_cut.values())),
    ):
        clock.timed(name, lambda: _backward(ends, cuts))  # noqa: B023  # called immediately
    clock.timed("optimiser", optimizer.step)
    return clock.ms


def _cut(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _backward(ends: Sequence[Tensor], cuts: Sequence[Tensor]) -> None:
    """Continue the backward pass from the cuts; unused outputs have no gradient and frozen stages no graph."""
    pairs = [(end, cut.grad) for end, cut in zip(ends, cuts, strict=True) if cut.grad is not None and end.requires_grad]
    torch.autograd.backward([end for end, _ in pairs], [gradient for _, gradient in pairs])


def loads(setting: Setting) -> Iterator[Load]:
    """Measure R50 with one image per step in float32, for each size and number of people."""
    people, sides = QUICK if setting.quick else (PEOPLE, SHORT_SIDES)
    model = random_network(setting, ModelConfig())
    optimizer = negligible_sgd(model)
    for side in sides:
        size = padded_size([(side, ceil(side * 4 / 3))])
        for count in people:
            step = Step(size, count, batch=1)
            batch = scene(size, count, device=setting.device)
            times = [step_by_part(model, batch, step, optimizer) for _ in range(1 + REPEATS)][1:]  # the first is a warm-up
            yield Load(size, count, {part: statistics.median(t[part] for t in times) for part in PARTS})


def loads_table(loads: Sequence[Load], device: str) -> Table:
    """Return a table with one row per size and number of people: milliseconds of each part."""
    result = Table(title=f"a training step by part, R50, one image, float32, {machine(device)}")
    for column in ("H x W", "people", "ms", *PARTS, "masks, share"):
        result.add_column(column, justify="right")
    for load in loads:
        parts = [f"{load.ms[part]:.0f}" for part in PARTS]
        size = f"{load.size[0]} x {load.size[1]}"
        result.add_row(size, str(load.people), f"{load.total:.0f}", *parts, f"{load.ms['masks'] / load.total:.0%}")
    return result


def write_loads(path: Path, loads: Sequence[Load]) -> None:
    """Write one object per load: ``size``, ``people``, ``total_ms`` and ``ms`` by part."""
    rows = [{"size": load.size, "people": load.people, "total_ms": load.total, "ms": dict(load.ms)} for load in loads]
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def plot_loads(path: Path, loads: Sequence[Load], device: str) -> None:
    """Plot the time of the whole step against the pixels, and that of the mask part against the people."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for people in dict.fromkeys(load.people for load in loads):
            of = [load for load in loads if load.people == people]
            pixels = [load.size[0] * load.size[1] / 1e6 for load in of]
            left.plot(pixels, [load.total / 1000 for load in of], "o-", label=f"{people} people")
        for size in dict.fromkeys(load.size for load in loads):
            of = [load for load in loads if load.size == size]
            right.plot([load.people for load in of], [load.ms["masks"] / 1000 for load in of], "o-", label=f"{size[0]} x {size[1]}")
        left.set(xlabel="million pixels", ylabel="s, the whole step", xlim=0, ylim=0)
        right.set(xlabel="people in the image", ylabel="s, assignment, mask head and losses", xlim=0, ylim=0)
        for axes in (left, right):
            axes.legend(frameon=False)
        figure.suptitle(f"R50, one image per step, {machine(device)}")
        figure.savefig(path, dpi=150)


def machine(device: str) -> str:
    """Describe the device."""
    if device == "cuda":
        return f"CUDA: {torch.cuda.get_device_name()}, device timers; torch {torch.__version__}"
    return f"CPU: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}"


def table(rows: Sequence[Measured], device: str) -> Table:
    """Return a table of medians and peaks."""
    result = Table(title=f"ours against the textbook form (baseline), {machine(device)}")
    for column in ("row", "ours ms", "baseline", "ratio", "CPU ratio", "ours MB", "baseline", "memory", "difference"):
        result.add_column(column, justify="left" if column == "row" else "right")
    for row in rows:
        memory = f"{row.ours_peak_mb / row.baseline_peak_mb:.2f}" if row.baseline_peak_mb > 0 else "-"
        difference = "-" if row.difference is None else f"{row.difference:.0e}"
        ratios = f"{row.ratio:.2f}", f"{row.baseline_cpu_ms / max(row.ours_cpu_ms, 1e-3):.2f}"
        times = f"{row.ours_ms:.1f}", f"{row.baseline_ms:.1f}"
        result.add_row(row.name, *times, *ratios, f"{row.ours_peak_mb:.0f}", f"{row.baseline_peak_mb:.0f}", memory, difference)
    return result


def write_json(path: Path, rows: Sequence[Measured]) -> None:
    """Write one object per row, with the fields of ``Measured``."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
