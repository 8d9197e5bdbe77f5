"""The machine: number formats and orders of memory that are slow on it, and what this process uses of its memory and open files."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: measured on two cores with AVX2 only
SLOW_STEP = "one training step of the R50 network took more than 10 minutes in bf16, and 8 s in float32"
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
#: channels of the neck; on two cores with AVX2 only, a training step of R50 (256) took 6.1 s in channels_last and 5.3 s in contiguous order
WIDE = 128
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and kilobytes elsewhere
#: parameters of glibc's ``mallopt``: size above which free memory is returned, number of blocks outside the heap
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def has_bf16() -> bool | None:
    """Return whether the processor has instructions for bf16; None if torch cannot tell.

    Older versions of torch do not list capabilities. Without these instructions oneDNN computes convolutions in bf16 with its reference
    code, 20 to 80 times slower than in float32.
    """
    known = {name: value for name, value in getattr(torch.cpu, "get_capabilities", dict)().items() if "bf16" in name}
    return any(known.values()) if known else None


def on_gpu(trainer: Mapping[str, Any]) -> bool:
    """Return whether the ``trainer`` options choose an NVIDIA or Apple GPU."""
    wanted = trainer["accelerator"]
    cuda = torch.cuda.is_available() and wanted in ("auto", "gpu", "cuda")
    return cuda or (torch.backends.mps.is_available() and wanted in ("auto", "gpu", "mps"))


def slow_precision(trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why ``trainer.precision`` is slow on this machine, and what to set instead; None if it is not."""
    precision = str(trainer["precision"])
    if precision.startswith("32"):
        return None
    if not on_gpu(trainer):
        if has_bf16() is False:
            found = f"trainer.precision={precision}: this processor has no instructions for bf16; {SLOW_STEP} on a similar one"
            return found, "set trainer.precision=32-true"
        if precision.startswith("16"):
            return f"trainer.precision={precision} becomes bf16 on a CPU", "set trainer.precision=32-true, or bf16-mixed"
    elif precision.startswith("bf16") and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU only emulates bf16, which is slow", "set trainer.precision=16-mixed or 32-true"
    return None


def memory_format(chosen: str, *, channels: int, gpu: bool) -> tuple[str, str]:
    """Return the order of memory in which a network is trained, and the reason.

    Without AVX-512, oneDNN's backward pass of wide convolutions is slower in channels_last. Narrow networks, whose other layers gain, and
    inference are not. The choice depends on the processor and the network alone, so that a resumed run makes the same one.

    Args:
        chosen: ``memory_format``: a key of ``FORMATS``, or auto.
        channels: of the network's neck.
        gpu: whether it is trained on one.
    """
    if chosen != "auto":
        return chosen, "as set"
    if gpu:
        return "channels_last", "the order of a GPU's tensor cores"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability != "AVX2":
        return "channels_last", f"the default on a processor with {capability}"
    if channels >= WIDE:
        return "contiguous", f"faster in the backward pass of {channels} channels on a processor with AVX2 but not AVX-512"
    return "channels_last", f"faster with {channels} channels on a processor with AVX2 but not AVX-512"


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether it does.

    glibc returns large blocks to the system as soon as they are freed. A training step frees and allocates each of its feature maps, so
    the system clears and maps all of them again at every step, page by page: a twentieth to a sixth of the time of a step in a virtual
    machine (results/speed.md). The process then stays at its peak memory. No effect where the C library is another one, or where the user
    has set glibc's allocator by environment variables.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ) or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])


def peak_host_memory() -> int | None:
    """Return the largest resident memory of this process so far in bytes; None on Windows."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def open_file_limit() -> int | None:
    """Return the number of files that this process may have open at once; None on Windows."""
    return None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
