"""From files to numbers through the real entry points, on a small generated crowd."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import lightning as L
import pytest
import torch

from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.train import main
from runs import SMALL, metrics_of, places, small_run, weights_of
from wandb_file import history

STEPS = ("schedule.max_steps=6", "schedule.val_every=6", "schedule.save_every=2")
ONE = ("schedule.max_steps=1", "schedule.val_every=1", "schedule.save_every=1")


def command(root: Path, *overrides: str) -> list[str]:
    paths = (*places(root), f"hydra.run.dir={root}")
    return [sys.executable, "-m", "cis_seg.train", *SMALL, *paths, *overrides]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six steps from the command line in this process, with augmentation, two loader processes and W&B."""
    root = tmp_path_factory.mktemp("whole")
    overrides = (*SMALL, *places(root), f"hydra.run.dir={root}", "name=whole", "data.photometric=light", "data.workers=2", "logger=wandb")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), warnings.catch_warnings(record=True) as warned:
        patch.setattr("sys.argv", ["train", *overrides, *STEPS])
        main()
    assert [str(warning.message) for warning in warned if issubclass(warning.category, UserWarning)] == []
    run = root / "runs" / "whole" / "seed0"
    (run / "said.txt").write_text(said.getvalue())
    return run


def test_run_writes_all_its_files(whole: Path) -> None:
    said = (whole / "said.txt").read_text()
    assert (whole / "config.yaml").read_text().startswith("name: whole")
    assert {p.name for p in (whole / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert list((whole / "overlays").glob("step0000006_*.png"))
    (offline,) = whole.glob("wandb/offline-run-*/*.wandb")
    logged = {key for row in history(offline) for key in row}
    assert {"train/loss_pairwise", "val/segm_AP", "overlays/0.all_masks", "overlays/0.all_boxes"} <= logged
    assert "loss_pairwise" in (whole / "csv" / "version_0" / "metrics.csv").read_text()
    metrics = metrics_of(whole)
    assert metrics["num_images"] == 3
    assert metrics["step"] == 6
    assert {"segm/AP", "segm/AP50", "bbox/AP50", "floor/ellipse_AP50", "floor/mask_to_box"} <= metrics.keys()
    assert "mask AP50" in said
    assert "images/s" in said
    assert "Traceback" not in said
    assert "Warning" not in said


class Interrupt(L.Callback):
    """Stops the training in the middle, as a fault would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("interrupted by the test")


def test_command_line_arguments_reach_the_callbacks_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("cis_seg.commands.train.train", lambda cfg, arguments: given.append((cfg.name, arguments)))
    overrides = ["name=given", "seed=3", "logger=null", "paths.data=a b", "hydra.mode=RUN", "hydra.run.dir=.", "hydra.output_subdir=null"]
    monkeypatch.setattr("sys.argv", ["train", *overrides])
    main()
    assert given == [("given", overrides)]


@pytest.mark.slow  # the signals of test_resume.py are the short form
def test_resumed_run_equals_an_uninterrupted_run(whole: Path, tmp_path: Path) -> None:
    common = ("name=part", "data.photometric=light", *STEPS)
    with pytest.raises(RuntimeError, match="interrupted by the test"):
        small_run(tmp_path, *common, "+callbacks.interrupt._target_=test_train.Interrupt", "+callbacks.interrupt.step=5")
    run = small_run(tmp_path, *common, "resume=true")
    expected = weights_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(run).items())
    assert metrics_of(run) == metrics_of(whole)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    common = ("name=killed", "data.photometric=light", "data.workers=2", *STEPS)
    process = subprocess.Popen(command(tmp_path, *common), start_new_session=True, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "runs" / "killed" / "seed0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.is_file(), "the run ended before its first checkpoint"
    run = small_run(tmp_path, *common, "resume=true")
    expected = weights_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(run).items())


def test_an_existing_run_is_not_overwritten(whole: Path) -> None:
    root = whole.parents[2]
    with pytest.raises(ConfigError, match=r"exists already[\s\S]*resume=true"):
        small_run(root, "name=whole", *STEPS)


def test_a_finished_run_is_reported(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    small_run(whole.parents[2], "name=whole", "resume=true", "data.photometric=light", "logger=wandb", *STEPS)
    assert "mask AP50" in capsys.readouterr().err
    assert (whole / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_the_last_step_is_scored_and_saved_whatever_the_intervals(tmp_path: Path) -> None:
    run = small_run(tmp_path, "name=odd", "schedule.max_steps=3", "schedule.val_every=2", "schedule.save_every=2")
    assert metrics_of(run)["step"] == 3
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 3


def test_mask_supervision_in_bf16_with_another_seed(whole: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path, "name=masks", "supervision=mask", "seed=1", "trainer.precision=bf16-mixed", *ONE)
    header = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert "loss_mask" in header
    assert "loss_proj" not in header
    weights = weights_of(run)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    assert not torch.equal(weights["model.head.controller.weight"], weights_of(whole)["model.head.controller.weight"])


def test_a_run_starts_from_another(whole: Path, tmp_path: Path) -> None:
    start = whole / "checkpoints" / "last.ckpt"
    run = small_run(tmp_path, "name=tuned", f"init_from='{start}'", "optim.lr=0.0", "optim.weight_decay=0.0", *ONE)
    assert torch.equal(weights_of(run)["model.head.controller.weight"], weights_of(whole)["model.head.controller.weight"])


def test_missing_initial_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        small_run(tmp_path, "name=lost", "init_from=/nowhere/last.ckpt", *STEPS)
