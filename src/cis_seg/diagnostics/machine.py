"""The machine and what is installed on it: Python, libraries, processors, memory, open files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cis_seg.diagnostics.finding import Line, ok, problem, warning

DISTRIBUTION = "cis-seg"
INSTALL = "pip install -e . -c constraints.txt"
#: named in the report when all is well; every other one is counted
SHOWN = ("torch", "torchvision", "lightning", "hydra-core", "numpy", "wandb")
#: because importing the libraries takes 0.8 GB before any work, and the tiny network as much again
LEAST_MEMORY = 2 * 2**30


def check_python() -> Iterator[Line]:
    """This interpreter against ``requires-python``."""
    from packaging.specifiers import SpecifierSet

    version, wanted = sys.version.split()[0], metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield ok(f"Python {version}")
    else:
        yield problem(f"Python {version}, wanted {wanted}", "make a virtual environment of another Python: make install PYTHON=python3.12")


def check_libraries() -> Iterator[Line]:
    """Every dependency against its range, and that torch and torchvision belong together."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    there: dict[str, str] = {}
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield problem(f"{requirement.name} is missing, wanted {requirement.specifier}", INSTALL)
            continue
        there[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            yield problem(f"{requirement.name} {version} is outside its range {requirement.specifier}", INSTALL)
    shown = ", ".join(f"{name} {there[name]}" for name in SHOWN if name in there)
    yield ok(f"{len(there)} libraries: {shown} ...")
    yield from _operators()


def _operators() -> Iterator[Line]:
    """A torchvision made for another torch imports, and lacks its operators."""
    import torch
    from torchvision.ops import nms

    try:
        nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        found = f"torchvision {metadata.version('torchvision')} does not belong to torch {torch.__version__}: {error}"
        yield problem(found, f"install a pair that was made together: {INSTALL}")


def check_processors() -> Iterator[Line]:
    """Cores that this process may use, and free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory()
    text = f"{cores} CPU cores" + (f", {gigabytes(free)} of memory free" if free is not None else "")
    if free is not None and free < LEAST_MEMORY:
        yield warning(text, f"end other programs: the smallest run needs about {gigabytes(LEAST_MEMORY)}")
    else:
        yield ok(text)


def free_memory() -> int | None:
    """Bytes that this process may still take: of the machine, and of its container; None where Linux's files are not there."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return None
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return free
    return min(free, limit)


def gigabytes(count: float) -> str:
    """12.3 GB, 45 MB"""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
