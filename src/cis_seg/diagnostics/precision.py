"""The speed of each precision on this machine, measured on one convolution."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from cis_seg.diagnostics.finding import Line, ok, warning
from cis_seg.diagnostics.subject import Subject
from cis_seg.runtime.processor import on_gpu, slow_precision

#: channels, height, width: a tenth of a second in bf16 on a CPU without bf16 instructions, and long enough to time on a GPU
CPU_SIZE, GPU_SIZE = (64, 32, 48), (256, 200, 304)
REPEATS = 3
#: slowdown relative to the fastest precision that causes a warning; smaller ones may not show in a whole step
MUCH_SLOWER = 1.5
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def check_speed(subject: Subject) -> Iterator[Line]:
    """Time a 3x3 convolution, forward and backward, in every precision of this device."""
    gpu = on_gpu(subject.typed.trainer) and torch.cuda.is_available()
    device, size = ("cuda", GPU_SIZE) if gpu else ("cpu", CPU_SIZE)
    seconds = {name: convolution_seconds(device, dtype, size) for name, dtype in DTYPES.items() if gpu or name != "16-mixed"}
    fastest = min(seconds, key=seconds.__getitem__)
    shown = ", ".join(f"{1000 * value:.3g} ms in {name}" for name, value in seconds.items())
    text = f"a convolution takes {shown}: {fastest} is the fastest precision here"
    chosen = str(subject.typed.trainer["precision"])
    known = slow_precision(subject.typed.trainer) is not None  # the check of the devices has warned about it
    if not known and seconds.get(chosen, 0) > MUCH_SLOWER * seconds[fastest]:
        yield warning(text, f"set trainer.precision={fastest}")
    else:
        yield ok(text)


def convolution_seconds(device: str, dtype: torch.dtype, size: tuple[int, int, int]) -> float:
    """Return the shortest time of ``REPEATS`` runs, with the network's memory format and training's autocast."""
    channels, height, width = size
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.ones(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            result = layer(image)
        result.float().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
