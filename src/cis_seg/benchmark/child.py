"""One side of one row in a process of its own: ``python -m cis_seg.benchmark.child ROW SIDE DEVICE QUICK OUTPUT``.

A process's peak memory never falls and its allocator remembers, so two sides in one process would disturb each other. The parent asks for
a repeat by a line on the standard input and gets a line of JSON back.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from cis_seg.benchmark.measure import ROWS
from cis_seg.benchmark.rows import Setting, Work

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEGABYTE = 2**20


def resident_mb(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (the most since ``forget_peak``) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) / 1024


def forget_peak(device: str) -> float:
    """Starts a new peak and returns what is in use now, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MEGABYTE
    CLEAR.write_text("5")  # Linux: sets the peak to what is resident now
    return resident_mb("VmRSS")


def peak_mb(device: str) -> float:
    """The most that was in use since ``forget_peak``, in MB."""
    return torch.cuda.max_memory_allocated() / MEGABYTE if device == "cuda" else resident_mb("VmHWM")


def timed(work: Work, device: str) -> dict[str, float]:
    """Milliseconds of one repeat: ``ms`` by the device's own clock on CUDA, else by the wall's; ``cpu_ms`` of this process's threads."""
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
    """First repeat: numbers and peak memory; then as many timed ones as lines arrive."""
    make: Any = getattr(ROWS[row], side)
    make(Setting(device, quick=True))()  # loads what libraries load at their first use, which belongs to the imports
    before = forget_peak(device)
    work: Work = make(Setting(device, quick=quick == "1"))
    torch.save({name: value.detach().float().cpu() for name, value in work().items()}, output)
    work()  # the optimiser's state and the second step's gradients are there only now
    print(json.dumps({"peak_mb": round(peak_mb(device) - before, 1)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(work, device)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
