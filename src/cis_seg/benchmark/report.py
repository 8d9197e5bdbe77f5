"""The table on the screen and the rows as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.table import Table

from cis_seg.benchmark.measure import Measured


def machine(device: str) -> str:
    """Where the figures were taken, in words."""
    if device == "cuda":
        return f"CUDA: {torch.cuda.get_device_name()}, device timers; torch {torch.__version__}"
    return f"CPU: {torch.get_num_threads()} threads; torch {torch.__version__}"


def table(rows: Sequence[Measured], device: str) -> Table:
    """Medians and peaks of ``rows``."""
    result = Table(title=f"ours and the textbook (theirs), {machine(device)}")
    for column in ("row", "ours ms", "theirs", "ratio", "CPU ratio", "ours MB", "theirs", "memory", "differ"):
        result.add_column(column, justify="left" if column == "row" else "right")
    for row in rows:
        memory = f"{row.ours_peak_mb / row.baseline_peak_mb:.2f}" if row.baseline_peak_mb > 0 else "-"
        difference = "-" if row.difference is None else f"{row.difference:.0e}"
        ratios = f"{row.ratio:.2f}", f"{row.baseline_cpu_ms / max(row.ours_cpu_ms, 1e-3):.2f}"
        times = f"{row.ours_ms:.1f}", f"{row.baseline_ms:.1f}"
        result.add_row(row.name, *times, *ratios, f"{row.ours_peak_mb:.0f}", f"{row.baseline_peak_mb:.0f}", memory, difference)
    return result


def write_json(path: Path, rows: Sequence[Measured]) -> None:
    """A list of rows, one object a row, with the fields of ``Measured``."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
