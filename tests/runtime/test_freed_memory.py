"""The allocator of a training process keeps what it frees, counted in page faults of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from cis_seg.runtime.machine import keep_freed_memory

print(keep_freed_memory())
for step in range(24):
    if step == 16:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    values = torch.ones(10_000_000)  # 40 MB, 10,000 pages; the first few leave gaps that are too small for the next
    del values
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(**environment: str) -> tuple[str, int]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=inherited | environment, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_freed_in_a_step_is_used_in_the_next() -> None:
    kept, faults = _run()
    assert (kept, faults < 1000) == ("True", True), faults


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_setting_of_the_user_stays() -> None:
    kept, faults = _run(MALLOC_MMAP_THRESHOLD_="1000000")
    assert (kept, faults > 50_000) == ("False", True), faults
