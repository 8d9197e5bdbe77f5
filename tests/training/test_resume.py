"""A run that was stopped and continued ends as if nothing had happened, bit by bit, wherever it was stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.runtime.signals import Stopped
from faulty import compared, differences, rows_of, sends, state_of
from runs import small_run
from wandb_file import history

STEPS = ("schedule.max_steps=6", "schedule.val_every=3", "schedule.save_every=2", "schedule.decay_steps=[4]")
OVERLAP = ("data.photometric=light", "loss.weights.overlap=1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps, validated after three and six."""
    return small_run(tmp_path_factory.mktemp("whole"), "name=whole", *STEPS, *OVERLAP)


@pytest.mark.parametrize(
    ("step", "workers"), [(3, 2), pytest.param(1, 0, marks=pytest.mark.slow), pytest.param(5, 0, marks=pytest.mark.slow)]
)
def test_sigterm_in_any_step(whole: Path, tmp_path: Path, step: int, workers: int) -> None:
    common = ("name=part", *STEPS, *OVERLAP, f"data.workers={workers}")
    with pytest.raises(Stopped) as stopped:
        small_run(tmp_path, *common, *sends(step))
    assert stopped.value.code == 143
    run = small_run(tmp_path, *common, "resume=true")
    assert compared(run, whole) == []


def test_sigint_in_a_validation(whole: Path, tmp_path: Path) -> None:
    """The validation of the last step is interrupted in the test of more steps."""
    with pytest.raises(Stopped) as stopped:
        small_run(tmp_path, "name=part", *STEPS, *OVERLAP, *sends(3, signal.SIGINT, validating=True))
    assert stopped.value.code == 130
    run = small_run(tmp_path, "name=part", *STEPS, *OVERLAP, "resume=true")
    assert compared(run, whole) == []


def test_another_runs_checkpoint_does_not_overwrite_a_run(whole: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        small_run(whole.parents[2], "name=whole", *STEPS, *OVERLAP, "resume=/elsewhere/last.ckpt")


def test_resumes_from_the_best_checkpoint(whole: Path, tmp_path: Path) -> None:
    """Written after the validation, which is not repeated; the log begins anew in another run."""
    run = small_run(tmp_path, "name=branch", *STEPS, *OVERLAP, f"resume='{whole}/checkpoints/best.ckpt'")
    assert differences(state_of(run)["state_dict"], state_of(whole)["state_dict"]) == []
    assert {int(row["step"]) for row in rows_of(run)} == {3, 4, 5}


def test_with_accumulated_steps_in_contiguous_order(tmp_path: Path) -> None:
    steps = ("schedule.max_steps=3", "schedule.val_every=3", "schedule.save_every=3")
    common = (*steps, *OVERLAP, "optim.batch_size=4", "optim.accumulate=2", "memory_format=contiguous")
    whole = small_run(tmp_path, "name=whole", *common)
    assert {path.name[:11] for path in (whole / "overlays").glob("step*")} == {"step0000003"}, "after three steps, not after three halves"
    with pytest.raises(Stopped):
        small_run(tmp_path, "name=part", *common, *sends(2))
    run = small_run(tmp_path, "name=part", *common, "resume=true")
    assert compared(run, whole) == []


def test_more_steps_after_the_last(whole: Path, tmp_path: Path) -> None:
    """A run of four steps that goes on to six is one of six, but for the validation it ended with."""
    shorter = tuple(option.replace("max_steps=6", "max_steps=4") for option in STEPS)
    small_run(tmp_path, "name=part", *shorter, *OVERLAP)
    with pytest.raises(Stopped):  # the scores of step 4 do not make it finished when it is stopped in the validation of the last
        small_run(tmp_path, "name=part", *STEPS, *OVERLAP, "resume=true", *sends(6, validating=True))
    run = small_run(tmp_path, "name=part", *STEPS, *OVERLAP, "resume=true")
    assert [line for line in compared(run, whole) if "csv" not in line] == []


def test_resumes_from_previous_if_last_is_corrupt(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Stopped):
        small_run(tmp_path, "name=part", *STEPS, *OVERLAP, *sends(5))
    last = tmp_path / "runs" / "part" / "seed0" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    run = small_run(tmp_path, "name=part", *STEPS, *OVERLAP, "resume=true")
    assert "step 4; steps 5 to 5 are trained again" in caplog.text
    assert compared(run, whole) == []


def test_another_batch_size_is_refused(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.batch_size: 2 in the checkpoint, 4 now"):
        small_run(whole.parents[2], "name=whole", *STEPS, *OVERLAP, "resume=true", "optim.batch_size=4", "schedule.max_steps=8")


def test_an_unfinished_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        small_run(tmp_path, "name=base", *STEPS, *sends(2))
    base = tmp_path / "runs" / "base" / "seed0" / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"not finished[\s\S]*6 steps[\s\S]*step 2[\s\S]*init_from=COPY"):
        small_run(tmp_path, "name=tuned", *STEPS, f"init_from='{base}'")
    copy = base.with_name("copy.ckpt")
    copy.write_bytes(base.read_bytes())
    one = ("schedule.max_steps=1", "schedule.val_every=1", "schedule.save_every=1")
    assert small_run(tmp_path, "name=tuned", *one, f"init_from='{copy}'").is_dir()


@pytest.mark.slow
def test_wandb_continues_the_same_run(tmp_path: Path) -> None:
    common = ("name=part", *STEPS, "logger=wandb")
    with pytest.raises(Stopped):
        small_run(tmp_path, *common, *sends(4))
    run = small_run(tmp_path, *common, "resume=true")
    first, second = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert first.stem.rpartition("-")[2] == second.stem.rpartition("-")[2] == (run / "wandb_id").read_text().strip()
    before, after = ([row["_step"] for row in history(path)] for path in (first, second))
    assert after[0] == before[-1] + 1
    losses = [row["trainer/global_step"] for path in (first, second) for row in history(path) if "train/loss" in row]
    assert losses == [0, 1, 2, 3, 4, 5]
