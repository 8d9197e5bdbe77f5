"""Precisions that are slow on a machine are reported with the measured time and an alternative."""

from __future__ import annotations

import pytest
import torch

from cis_seg.runtime.machine import slow_precision

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
