"""Measure both sides of a row, each in its own process, in alternation.

The peak memory of a process never falls and its allocator caches blocks, so two sides in one process would disturb each other. A side runs
as ``python -m cis_seg.benchmark.measure ROW SIDE DEVICE QUICK OUTPUT``; the parent requests a repeat with a line on standard input and
receives a line of JSON.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from cis_seg.benchmark.network_rows import NETWORK_ROWS
from cis_seg.benchmark.pipeline_rows import PIPELINE
from cis_seg.benchmark.rows import OPERATIONS, Row, Setting, Work
from cis_seg.benchmark.step_rows import STEPS
from cis_seg.errors import UserError

ROWS: dict[str, Row] = {**OPERATIONS, **STEPS, **PIPELINE, **NETWORK_ROWS}
SIDES = ("ours", "baseline")
#: repeats per side: at least enough for a median
MIN_REPEATS, MAX_REPEATS = 3, 15
SECONDS_PER_ROW = 15.0


@dataclass(frozen=True)
class Measured:
    """One row of the table; times are medians."""

    name: str
    ours_ms: float
    baseline_ms: float
    ratio: float  # baseline / ours
    ours_peak_mb: float  # above the imports
    baseline_peak_mb: float
    ours_cpu_ms: float  # of all threads; less sensitive to other load than the wall clock
    baseline_cpu_ms: float
    difference: float | None  # of the values, relative to the largest; None if the sides do different work
    repeats: int
    note: str


class Child:
    """One side in its own process."""

    def __init__(self, row: str, side: str, *, device: str, quick: bool, output: Path) -> None:
        command = [sys.executable, "-m", "cis_seg.benchmark.measure", row, side, device, str(int(quick)), str(output)]
        self.name = f"{side} of {row}"
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def answer(self) -> dict[str, float]:
        """Return the next line of output.

        Raises:
            UserError: the process ended; its message is on standard error.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"the {self.name} ended without a result", found=f"exit code {self.process.wait()}", remedy="see above")
        answer: dict[str, float] = json.loads(line)
        return answer

    def repeat(self) -> dict[str, float]:
        """Run another repeat and return its ``ms`` and ``cpu_ms``."""
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.answer()


def measure(name: str, row: Row, *, device: str, quick: bool) -> Measured:
    """Measure peak memory and times of one row and check that both sides agree.

    Raises:
        UserError: a side failed, or the values differ by more than the tolerance of the row.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / side for side in SIDES]
        children = [Child(name, side, device=device, quick=quick, output=path) for side, path in zip(SIDES, outputs, strict=True)]
        with children[0], children[1]:
            peaks = [child.answer()["peak_mb"] for child in children]
            difference = None if row.tolerance is None else largest_difference(*(torch.load(path, weights_only=True) for path in outputs))
            if difference is not None and row.tolerance is not None and not difference <= row.tolerance:
                expected = f"differences of at most {row.tolerance:g}"
                raise UserError(
                    "our implementation and the baseline give different values", where=name, expected=expected, found=f"{difference:.2e}"
                )
            times = _alternating(children, quick)
    ours, baseline, *cpu = (round(statistics.median(t[clock] for t in side), 3) for clock in ("ms", "cpu_ms") for side in times)
    return Measured(
        name, ours, baseline, round(baseline / ours, 3), peaks[0], peaks[1], cpu[0], cpu[1], difference, len(times[0]), row.note
    )


def _alternating(children: list[Child], quick: bool) -> list[list[dict[str, float]]]:
    """Return the times of each child; repeats alternate between them."""
    times: list[list[dict[str, float]]] = [[] for _ in children]
    deadline = time.monotonic() + (0 if quick else SECONDS_PER_ROW)
    while len(times[0]) < MIN_REPEATS or (len(times[0]) < MAX_REPEATS and time.monotonic() < deadline):
        for child, found in zip(children, times, strict=True):
            found.append(child.repeat())
    return times


def largest_difference(ours: dict[str, Any], baseline: dict[str, Any]) -> float:
    """Return the largest difference relative to the largest value of the same tensor; infinite if names or shapes differ."""
    if ours.keys() != baseline.keys() or any(ours[name].shape != baseline[name].shape for name in ours):
        return torch.inf
    pairs = [(ours[name].double(), baseline[name].double()) for name in ours if ours[name].numel()]
    return float(torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1e-12) for a, b in pairs]).max())


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEGABYTE = 2**20


def resident_mb(field: str) -> float:
    """Return ``VmRSS`` (current) or ``VmHWM`` (peak since ``reset_peak``) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    assert found is not None
    return int(found.group(1)) / 1024


def reset_peak(device: str) -> float:
    """Reset the peak memory and return the memory in use, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MEGABYTE
    CLEAR.write_text("5", encoding="utf-8")  # Linux: resets VmHWM to VmRSS
    return resident_mb("VmRSS")


def peak_mb(device: str) -> float:
    """Return the peak memory since ``reset_peak``, in MB."""
    return torch.cuda.max_memory_allocated() / MEGABYTE if device == "cuda" else resident_mb("VmHWM")


def timed(work: Work, device: str) -> dict[str, float]:
    """Return milliseconds of one repeat: ``ms`` (CUDA events on a GPU, wall clock on the CPU) and ``cpu_ms`` of all threads."""
    cpu, wall = time.process_time(), time.perf_counter()
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        milliseconds = float(start.elapsed_time(end))
    else:
        work()
        milliseconds = (time.perf_counter() - wall) * 1000
    return {"ms": milliseconds, "cpu_ms": (time.process_time() - cpu) * 1000}


def main(row: str, side: str, device: str, quick: str, output: str) -> None:
    """Run one side once for its values and peak memory, then once, timed, for each line of input."""
    make: Any = getattr(ROWS[row], side)
    make(Setting(device, quick=True))()  # warm-up: libraries load more on first use, which must not count
    before = reset_peak(device)
    work: Work = make(Setting(device, quick=quick == "1"))
    torch.save({name: value.detach().float().cpu() for name, value in work().items()}, output)
    work()  # the optimiser state and the gradients exist from the second step on
    print(json.dumps({"peak_mb": round(peak_mb(device) - before, 1)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(work, device)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
