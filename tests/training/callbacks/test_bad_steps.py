"""Steps that give no number, in real runs: nothing of them stays, they are written down, many of them stop the run; and loss spikes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cis_seg.commands import replay
from cis_seg.errors import CheckpointError, RunError
from cis_seg.replay import main
from cis_seg.training.callbacks.bad_steps import FACTOR, LEAST, PAUSE, WINDOW, LossSpikes
from cis_seg.training.skipped_step import KEPT
from faulty import differences
from runs import SMALL, places, small_run, weights_of
from step_faults import spoils

STEPS = ("schedule.max_steps=6", "schedule.val_every=6", "schedule.save_every=6")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this file are."""
    return tmp_path_factory.mktemp("bad_steps")


@pytest.fixture(scope="module")
def sound(root: Path) -> Path:
    """A run without a bad step, and without anything that looks for one."""
    return small_run(root, "name=unwatched", "~callbacks.bad_steps", *STEPS)


def column(run: Path, name: str) -> list[float]:
    """A curve of the run's csv log."""
    rows = list(csv.DictReader((run / "csv" / "version_0" / "metrics.csv").open()))
    return [float(row[name]) for row in rows if row.get(name)]


def checkpoint(run: Path, name: str) -> Any:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def test_detection_of_bad_steps_changes_nothing(root: Path, sound: Path) -> None:
    run = small_run(root, "name=watched", *STEPS)
    assert differences(weights_of(run), weights_of(sound)) == []
    assert not (run / "bad_steps").exists()
    assert column(run, "train/skipped_steps") == [0.0] * 6
    norms = column(run, "train/grad_norm")
    assert len(norms) == 6
    assert min(norms) > 0


@pytest.mark.parametrize("poison", ["PoisonedLoss", "PoisonedGradient"])
def test_bad_step_leaves_no_trace(root: Path, sound: Path, poison: str) -> None:
    common = ("schedule.val_every=10", "schedule.save_every=1", "optim.name=sgd", *spoils(poison, steps=[3]))
    run = small_run(root, f"name=nan_{poison}", "schedule.max_steps=3", *common)
    before, after = (checkpoint(run, name) for name in ("previous.ckpt", "last.ckpt"))
    assert (before["global_step"], after["global_step"]) == (2, 3)
    assert differences(before["state_dict"], after["state_dict"]) == [], "weights, and the running statistics of the norms"
    assert differences(before["optimizer_states"][0]["state"], after["optimizer_states"][0]["state"]) == []
    assert after["lr_schedulers"][0]["last_epoch"] == 3, "the schedule goes on"
    assert column(run, "train/skipped_steps") == [0.0, 0.0, 1.0]


def test_bad_step_is_saved_to_a_file(root: Path, sound: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = small_run(root, "name=told", *STEPS, *spoils("PoisonedLoss", steps=[3]))
    report = json.loads((run / "bad_steps" / "step000003.json").read_text())
    assert (report["step"], report["seed"], report["skipped_steps"], report["precision"]) == (3, 0, 1, "32-true")
    assert report["gradient_norm"] == "nan"
    assert report["losses"][0]["loss_cls"] == "nan"
    assert report["losses"][0]["loss_proj"] > 0
    assert [image["position"] for image in report["images"]] == [4, 5]
    assert all(Path(image["file"]).is_file() for image in report["images"])
    assert report["reproduce"] == f"python -m cis_seg.replay {run / 'bad_steps' / 'step000003.pt'}"
    (warning,) = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert "step 3" in warning
    assert all(str(image["id"]) in warning for image in report["images"])
    assert differences(weights_of(run), weights_of(sound))
    # the loss was poisoned from outside: without that, the step's file gives the losses that the sound run had
    again = replay.replay(run / "bad_steps" / "step000003.pt", "cpu")
    assert again.losses[0]["loss_cls"] == column(sound, "train/loss_cls")[2]
    assert again.losses[0]["loss_proj"] == report["losses"][0]["loss_proj"]
    assert again.gradient_norm > 0
    assert (again.first_module, again.parameters) == (None, [])


def test_many_consecutive_bad_steps_stop_the_run_with_advice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ("schedule.max_steps=9", "optim.max_bad_steps=5", "optim.clip_norm=null")
    with pytest.raises(RunError, match=r"5 training steps in a row[\s\S]*optim\.lr[\s\S]*clip_norm=10[\s\S]*resume=true") as stop:
        small_run(root, "name=hopeless", *steps, *spoils("PoisonedWeights", step=2))
    folder = root / "runs" / "hopeless" / "seed0" / "bad_steps"
    assert str(folder) in str(stop.value)
    assert [path.stem for path in sorted(folder.glob("*.json"))] == [f"step00000{i}" for i in (2, 3, 4, 5, 6)]
    assert len(list(folder.glob("*.pt"))) == KEPT
    assert main([str(folder / "step000002.pt"), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "step 2, 32-true" in shown
    assert "first module with a non-finite output: backbone.layer2.0.conv1" in shown
    assert "gradient norm: nan" in shown


def test_bad_micro_batch_skips_the_whole_step(root: Path) -> None:
    """With a teacher, whose average stays like the weights, so that its masks are computed again too."""
    steps = ("schedule.max_steps=3", "schedule.val_every=10", "schedule.save_every=1", "optim.batch_size=4", "optim.accumulate=2")
    teacher = ("loss.weights.teacher=1", "teacher.ramp_steps=0", "teacher.refine=2", "teacher.colors=3")
    run = small_run(root, "name=parts", *steps, *teacher, *spoils("PoisonedLoss", steps=[3]))
    before, after = (checkpoint(run, name)["state_dict"] for name in ("previous.ckpt", "last.ckpt"))
    assert {name.split(".")[0] for name in after} == {"model", "average"}
    assert differences(before, after) == []
    report = json.loads((run / "bad_steps" / "step000003.json").read_text())
    assert [part["loss_cls"] == "nan" for part in report["losses"]] == [True, False]
    assert [image["position"] for image in report["images"]] == [8, 9, 10, 11]
    again = replay.replay(run / "bad_steps" / "step000003.pt", "cpu")
    for mine, reported in zip(again.losses, report["losses"], strict=True):
        assert mine["loss_proj"] == reported["loss_proj"]
        assert mine["loss_teacher"] == reported["loss_teacher"]
        assert mine["loss_teacher"] > 0


@pytest.mark.slow
def test_resumed_run_continues_the_count_and_is_bit_identical(root: Path) -> None:
    poison, five = spoils("PoisonedLoss", steps=[2, 4]), (*STEPS, "schedule.max_steps=5", "schedule.val_every=5")
    whole = small_run(root, "name=both", *five, *poison)
    small_run(root, "name=parted", *five, *poison, "schedule.max_steps=3")
    run = small_run(root, "name=parted", *five, *poison, "resume=true")
    assert differences(weights_of(run), weights_of(whole)) == []
    assert column(run, "train/skipped_steps")[-2:] == [2.0, 2.0]
    content = checkpoint(run, "last.ckpt")
    (counts,) = [state for name, state in content["callbacks"].items() if "BadSteps" in name]
    assert counts == {"skipped": 2, "in_row": 0}


def test_file_without_a_step_is_rejected(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="not the file of a training step"):
        replay.replay(sound / "checkpoints" / "last.ckpt")
    assert main([str(sound / "nothing.pt")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("poison", ["PoisonedLoss", "PoisonedGradient"])
def test_two_processes_skip_the_step_together(root: Path, sound: Path, poison: str) -> None:
    paths = (*places(root), f"name=two_{poison}", "trainer.devices=2", "trainer.accelerator=cpu")
    overrides = (*paths, "schedule.max_steps=3", "schedule.val_every=10", "schedule.save_every=1", *spoils(poison, steps=[3], rank=1))
    command = [sys.executable, "-m", "cis_seg.train", *SMALL, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, env={**_environment(), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    run = root / "runs" / f"two_{poison}" / "seed0"
    before, after = (checkpoint(run, name)["state_dict"] for name in ("previous.ckpt", "last.ckpt"))
    assert differences(before, after) == []
    reports = [json.loads((run / "bad_steps" / f"step000003_rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [image["position"] for report in reports for image in report["images"]] == [4, 5]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def test_loss_spike_is_reported_with_its_images() -> None:
    spikes = LossSpikes()
    assert all(spikes.look(step, 1.0 + 0.5 * (step % 2), (1,)) is None for step in range(LEAST + 1))
    spikes.look(30, 1.2, (1,))
    assert spikes.look(50, FACTOR * 1.1, (7, 9)) is None, "just the factor: half of the 22 are 1, then come 1.2 and 1.5"
    warning = spikes.look(51, FACTOR * 1.2 + 0.01, (7, 9))
    assert warning is not None
    assert warning.startswith("step 51: the loss 3.61 is more than 3 times the recent median 1.2 ")
    assert warning.endswith("(images 7, 9)")


def test_first_steps_are_never_spikes() -> None:
    spikes = LossSpikes()
    assert [spikes.look(step, 10.0**step, (1,)) for step in range(LEAST)] == [None] * LEAST


def test_warnings_are_spaced_and_count_suppressed_spikes() -> None:
    spikes = LossSpikes()
    for step in range(LEAST):
        spikes.look(step, 1.0, ())
    told = [spikes.look(step, 1.0 if step % 10 else 9.0, ()) for step in range(100, 100 + PAUSE + 1)]
    assert [step for step, warning in enumerate(told) if warning] == [0, PAUSE]
    assert told[PAUSE] is not None
    assert told[PAUSE].endswith(f"; {PAUSE // 10 - 1} more since the last warning")


def test_spike_baseline_adapts_to_a_new_level() -> None:
    spikes = LossSpikes()
    for step in range(WINDOW):
        spikes.look(step, 1.0, ())
    told = [spikes.look(step, 5.0, ()) for step in range(WINDOW, 3 * WINDOW)]
    assert [step for step, warning in enumerate(told) if warning] == [0], "after half a window the median is 5"
