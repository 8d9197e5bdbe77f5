"""Checks of the machine and its software: Python, libraries, processors, memory, GPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.diagnostics.findings import Line, ok, problem, warning

if TYPE_CHECKING:
    from cis_seg.diagnostics.subject import Subject

DISTRIBUTION = "cis-seg"
INSTALL = "pip install -e . -c constraints.txt"
#: libraries whose versions are shown; the others are only counted
SHOWN = ("torch", "torchvision", "lightning", "hydra-core", "numpy", "wandb")
#: bytes; importing the libraries takes 0.8 GB, and training the tiny network as much again
MIN_MEMORY = 2 * 2**30
DRIVER = Path("/proc/driver/nvidia/version")


def check_python() -> Iterator[Line]:
    """Check this interpreter against ``requires-python``."""
    from packaging.specifiers import SpecifierSet

    version, wanted = sys.version.split()[0], metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield ok(f"Python {version}")
    else:
        remedy = "create a virtual environment with another Python: make install PYTHON=python3.12"
        yield problem(f"Python {version}, required {wanted}", remedy)


def check_libraries() -> Iterator[Line]:
    """Check the version of every dependency, and that torchvision matches torch."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    installed: dict[str, str] = {}
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield problem(f"{requirement.name} is missing, required {requirement.specifier}", INSTALL)
            continue
        installed[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            yield problem(f"{requirement.name} {version} is outside its range {requirement.specifier}", INSTALL)
    shown = ", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed)
    yield ok(f"{len(installed)} libraries: {shown} ...")
    yield from _operators()


def _operators() -> Iterator[Line]:
    """Call an operator of torchvision: built for another torch, torchvision imports but lacks its operators."""
    import torch
    from torchvision.ops import nms

    try:
        nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        found = f"torchvision {metadata.version('torchvision')} does not match torch {torch.__version__}: {error}"
        yield problem(found, f"install matching versions: {INSTALL}")


def check_processors() -> Iterator[Line]:
    """Report the cores that this process may use, and the free memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory()
    text = f"{cores} CPU cores" + (f", {gigabytes(free)} of memory free" if free is not None else "")
    if free is not None and free < MIN_MEMORY:
        yield warning(text, f"end other programs: the smallest run needs about {gigabytes(MIN_MEMORY)}")
    else:
        yield ok(text)


def free_memory() -> int | None:
    """Return the bytes of memory left to this process, limited by machine and container; None without Linux's ``/proc/meminfo``."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    except OSError:
        return None
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="utf-8")) - int((group / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return free
    return min(free, limit)


def gigabytes(count: float) -> str:
    """Format a number of bytes: ``12.3 GB``, ``45 MB``."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def check_gpus() -> Iterator[Line]:
    """Run a small computation on every GPU; without a usable GPU, report the reason."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _gpu(index)
    elif not DRIVER.is_file():
        yield ok("no NVIDIA driver: training runs on the CPU")
    elif torch.version.cuda is None:
        remedy = "install the standard builds of torch and torchvision: pip install -e . -c constraints.txt"
        yield problem(f"an NVIDIA driver is installed, but torch {torch.__version__} is built without CUDA", remedy)
    else:
        found = f"torch {torch.__version__} is built for CUDA {torch.version.cuda} and cannot use the GPU: {_reason()}"
        yield problem(found, "update the NVIDIA driver, or install a torch build for it; nvidia-smi shows the CUDA version it supports")


def _reason() -> str:
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "the driver reports no device (is CUDA_VISIBLE_DEVICES set?)"


def _gpu(index: int) -> Line:
    import torch

    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    shown = f"GPU {index}: {name}, capability {capability[0]}.{capability[1]}"
    try:
        torch.ones(8, device=f"cuda:{index}").sum().item()
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        built = ", ".join(torch.cuda.get_arch_list())
        remedy = (
            f"select another GPU with CUDA_VISIBLE_DEVICES, or install a torch build for this one (installed: {built}); "
            "nvidia-smi shows which programs use it"
        )
        return problem(f"{shown}: {str(error).splitlines()[0]}", remedy)
    shown += f", {gigabytes(free)} of {gigabytes(total)} free, CUDA {torch.version.cuda}"
    if free < total / 2:
        return warning(f"{shown}: another program uses it", "nvidia-smi shows which; CUDA_VISIBLE_DEVICES=1 selects the second GPU")
    return ok(shown + (", bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else ", no bf16"))


def check_devices(subject: Subject) -> Iterator[Line]:
    """Check ``trainer.devices``, ``trainer.accelerator`` and ``trainer.precision`` against the machine."""
    from cis_seg.runtime.machine import on_gpu, slow_precision
    from cis_seg.training.launch import processes_to_start

    trainer = subject.typed.trainer
    processes = processes_to_start(trainer) or 1
    slow = slow_precision(trainer)
    yield ok(f"{processes} x {'GPU' if on_gpu(trainer) else 'CPU'}, {trainer['precision']}") if slow is None else warning(*slow)


def check_memory_format(subject: Subject) -> Iterator[Line]:
    """Report the order of memory in which the network is trained, and the reason."""
    from cis_seg.runtime.machine import memory_format, on_gpu

    gpu = on_gpu(subject.typed.trainer)
    order, reason = memory_format(subject.typed.memory_format, channels=subject.typed.model.neck_channels, gpu=gpu)
    yield ok(f"{order}: {reason}")
