"""The results as tables, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from rich.table import Table

from cis_seg.benchmark.measure import Measured
from cis_seg.benchmark.parts import PARTS, Load


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
    return f"CPU: {torch.get_num_threads()} threads; torch {torch.__version__}"


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
