"""Precisions that are slow on a machine are reported with an alternative; the order of memory follows the processor."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from cis_seg.runtime.machine import memory_format, slow_precision

WITHOUT, WITH = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, {"avx512_bf16": True, "amx_bf16": False}


@pytest.mark.parametrize(
    ("precision", "capabilities", "gpu", "words"),
    [
        ("bf16-mixed", WITHOUT, None, "no instructions for bf16; one training step of the R50 network took more than 10 minutes"),
        ("16-mixed", WITHOUT, None, "no instructions for bf16"),
        ("16-mixed", WITH, None, "becomes bf16 on a CPU"),
        ("bf16-mixed", WITHOUT, False, "only emulates bf16"),
        ("bf16-mixed", WITH, None, None),
        ("bf16-mixed", {"architecture": "unknown"}, None, None),
        ("32-true", WITHOUT, None, None),
        ("bf16-mixed", WITHOUT, True, None),
    ],
)
def test_slow_precisions(
    precision: str, capabilities: dict[str, object], gpu: bool | None, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    slow = slow_precision({"accelerator": "auto", "precision": precision})
    assert (slow is None) == (words is None)
    assert slow is None or (words in slow[0] and "trainer.precision=" in slow[1])


@pytest.mark.parametrize(
    ("chosen", "capability", "channels", "gpu", "order", "reason"),
    [
        ("auto", "AVX512", 256, False, "channels_last", "AVX512"),
        ("auto", "AVX2", 256, False, "contiguous", "256 channels on a processor with AVX2"),
        ("auto", "AVX2", 128, False, "contiguous", "AVX2"),
        ("auto", "AVX2", 64, False, "channels_last", "64 channels on a processor with AVX2"),
        ("auto", "AVX2", 256, True, "channels_last", "GPU"),
        ("auto", "DEFAULT", 256, False, "channels_last", "DEFAULT"),
        ("channels_last", "AVX2", 256, False, "channels_last", "as set"),
        ("contiguous", "AVX512", 32, True, "contiguous", "as set"),
    ],
)
def test_order_of_memory(
    chosen: str, capability: str, channels: int, gpu: bool, order: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found, why = memory_format(chosen, channels=channels, gpu=gpu)
    assert found == order
    assert reason in why


def test_this_processor_is_recognised() -> None:
    """Set the variables of ATen that limit it to AVX2, in a new process."""
    code = "from cis_seg.runtime.machine import memory_format; print(*memory_format('auto', channels=256, gpu=False))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True)
    supported = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    assert done.stdout.startswith("contiguous" if supported else "channels_last")
