"""The progress line of a real Trainer, in a log file and in a terminal, by a clock that the test winds."""

from __future__ import annotations

import io
import itertools
import sys
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cis_seg.training.callbacks import progress
from cis_seg.training.callbacks.progress import StepProgress


class Clock:
    """Goes forward by ``step`` seconds at every look."""

    def __init__(self, step: float) -> None:
        self.times = itertools.count(100.0, step)

    def monotonic(self) -> float:
        return next(self.times)


class Module(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log_dict({"train/loss_cls": 1.5, "train/loss_proj": 0.25, "train/loss": 1.75}, batch_size=4)
        loss: Tensor = self.layer(batch[0]).sum()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log_dict({"val/segm_AP": 12.34, "val/segm_AP50": 43.21})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    batch_size = 4

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.zeros(40, 1)), batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.zeros(2, 1)), batch_size=1)


def train(
    monkeypatch: pytest.MonkeyPatch, *, seconds: float, max_steps: int = 3, callback: StepProgress | None = None, **options: Any
) -> None:
    monkeypatch.setattr(progress, "time", Clock(seconds))
    options = {"limit_val_batches": 0, **options}
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, callbacks=[callback or StepProgress()], max_steps=max_steps,
                        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, **options)  # fmt: skip
    trainer.fit(Module(), datamodule=Data())


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What went to stderr about the steps; Lightning writes about its hardware there too."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]


def test_lines_of_a_log_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train(monkeypatch, seconds=40.0)
    # 4 images in 40 seconds
    assert lines(capsys) == [f"step {i}/3 | 0.1 images/s | loss 1.75 (cls 1.50 proj 0.25)" for i in (1, 2, 3)]


def test_fast_steps_share_a_line_and_the_last_has_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train(monkeypatch, seconds=8.0, max_steps=9)
    # four looks at the clock, 32 seconds, then the rest; 16 images in 32 seconds
    assert lines(capsys) == [f"step {i}/9 | 0.5 images/s | loss 1.75 (cls 1.50 proj 0.25)" for i in (4, 8, 9)]


def test_accumulated_batches_are_one_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train(monkeypatch, seconds=40.0, accumulate_grad_batches=2)
    assert [line.split(" |")[0] for line in lines(capsys)] == ["step 1/3", "step 2/3", "step 3/3"]


def test_validation_has_its_line_and_does_not_affect_the_speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    train(monkeypatch, seconds=40.0, max_steps=2, limit_val_batches=2, val_check_interval=1)
    validation = "step {}: validation mask AP 12.3, AP50 43.2"
    printed = lines(capsys)
    assert [line for line in printed if "validation" in line] == [validation.format(1), validation.format(2)]
    assert [line.split(" | ")[1] for line in printed if "loss" in line] == ["0.1 images/s"] * 2


def test_other_processes_print_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    callback = StepProgress()
    callback.disable()
    train(monkeypatch, seconds=40.0, callback=callback, limit_val_batches=2)
    assert lines(capsys) == []
    callback.enable()
    train(monkeypatch, seconds=40.0, callback=callback)
    assert len(lines(capsys)) == 3


def test_one_line_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(monkeypatch, seconds=40.0)
    shown = [text.strip() for text in terminal.getvalue().replace("\n", "\r").split("\r") if " left | " in text]
    assert len(shown) > 1
    assert shown[0].startswith("0/")
    assert "3/3" in shown[-1]
    assert "0.1 images/s | loss 1.75 (cls 1.50 proj 0.25)" in shown[-1]
