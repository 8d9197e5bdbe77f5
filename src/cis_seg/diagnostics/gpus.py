"""Checks of the GPUs: whether torch can use them, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.diagnostics.finding import Line, ok, problem, warning
from cis_seg.diagnostics.machine import gigabytes

if TYPE_CHECKING:
    from cis_seg.diagnostics.subject import Subject

DRIVER = Path("/proc/driver/nvidia/version")


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
    from cis_seg.runtime.processor import on_gpu, slow_precision
    from cis_seg.training.launch import processes_to_start

    trainer = subject.typed.trainer
    processes = processes_to_start(trainer) or 1
    slow = slow_precision(trainer)
    yield ok(f"{processes} x {'GPU' if on_gpu(trainer) else 'CPU'}, {trainer['precision']}") if slow is None else warning(*slow)
