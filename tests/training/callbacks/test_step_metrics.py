"""Memory and weighted terms; what a whole run logs is tested in test_dashboard.py."""

from __future__ import annotations

import resource
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cis_seg.training.callbacks.step_log import peak_memory, weighted_losses


def test_memory_of_the_host_and_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_000_000_000)
    block = torch.ones(60_000_000)  # 240 MB that are touched
    memory = peak_memory(torch.device("cpu"))
    assert memory.keys() == {"memory/peak_rss_gb"}
    assert block.nbytes / 1e9 < memory["memory/peak_rss_gb"] < 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert peak_memory(torch.device("cuda"))["memory/peak_cuda_gb"] == 3.0


def test_weighted_terms_take_the_weights_of_the_criterion() -> None:
    module: Any = SimpleNamespace(criterion=SimpleNamespace(weights={"box": 2.0, "overlap": 0.5}))
    metrics = {"train/loss_box": torch.tensor(1.5), "train/loss_overlap": torch.tensor(0.25), "train/loss": torch.tensor(3.125)}
    trainer: Any = SimpleNamespace(callback_metrics=metrics)
    assert weighted_losses(trainer, module) == {"train_weighted/loss_box": 3.0, "train_weighted/loss_overlap": 0.125}
    assert weighted_losses(SimpleNamespace(callback_metrics={}), module) == {}  # type: ignore[arg-type]
