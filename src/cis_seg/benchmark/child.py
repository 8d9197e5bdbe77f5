"""One side of one row in a separate process: ``python -m cis_seg.benchmark.child ROW SIDE DEVICE QUICK OUTPUT``.

The peak memory of a process never falls and its allocator caches blocks, so two sides in one process would disturb each other. The
parent requests a repeat with a line on standard input and receives a line of JSON.
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
    """Return ``VmRSS`` (current) or ``VmHWM`` (peak since ``reset_peak``) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) / 1024


def reset_peak(device: str) -> float:
    """Reset the peak memory and return the memory in use, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MEGABYTE
    CLEAR.write_text("5")  # Linux: resets VmHWM to VmRSS
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
