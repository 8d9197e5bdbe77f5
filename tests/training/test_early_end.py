"""A run that a time limit or a callback ends early is saved and scored, and continues to the same bits."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest

from cis_seg.commands.train import train
from cis_seg.errors import ConfigError, RunError
from cis_seg.training.trainer import TimeLimit
from faulty import differences, state_of
from runs import SMALL, composed, metrics_of, places, small_run

STEPS = ("schedule.max_steps=6", "schedule.val_every=3", "schedule.save_every=100", "data.photometric=light")


class StopAfter(L.Callback):
    """Asks the trainer to stop, within a step if that is accumulated."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        trainer.should_stop = trainer.fit_loop.total_batch_idx + 1 == self.batch


@pytest.mark.parametrize(("accumulate", "batch"), [(1, 2), (2, 3)])
def test_ended_run_is_saved_scored_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, accumulate: int, batch: int
) -> None:
    common = (*STEPS, f"optim.accumulate={accumulate}", "optim.batch_size=2")
    stop = ("+callbacks.stop._target_=test_early_end.StopAfter", f"+callbacks.stop.batch={batch}")
    cfg = composed(*SMALL, *places(tmp_path), "name=part", *common, *stop)
    train(cfg, ["name=part", "resume=false"])
    run = Path(cfg.paths.run)
    assert metrics_of(run)["step"] == 2
    assert metrics_of(run)["num_images"] == 3
    assert "ended the run after step 2 of 6" in caplog.text
    assert f"saved in {run}/checkpoints/last.ckpt\n  continue with: python -m cis_seg.train name=part resume=true" in caplog.text
    assert "after 2 steps" in capsys.readouterr().err
    small_run(tmp_path, "name=part", *common, "resume=true")
    whole = small_run(tmp_path, "name=whole", *common)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert differences(state_of(run)[part], state_of(whole)[part]) == []
    assert metrics_of(run) == metrics_of(whole)


def test_run_ended_by_a_time_limit_or_early_stopping_can_be_resumed(tmp_path: Path) -> None:
    """The limit is that of one start; after early stopping a resumed run trains to its next validation."""
    common = ("name=part", *SMALL, *STEPS, "schedule.val_every=2", "schedule.max_steps=8")
    slow = ("+callbacks.slow._target_=faulty.Slow", "+callbacks.slow.step=1", "+callbacks.slow.seconds=1", "+trainer.max_time=00:00:00:01")
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/score", "mode": "max", "patience": 1}
    early = [*(f"+callbacks.early.{option}={value}" for option, value in stopping.items()), "optim.lr=0.0"]
    run = small_run(tmp_path, *common, *slow)
    assert metrics_of(run)["step"] == 1
    small_run(tmp_path, *common, *slow, "resume=true")
    assert metrics_of(run)["step"] == 2
    other = [option.replace("part", "other") for option in common]
    run = small_run(tmp_path, *other, *early)
    assert metrics_of(run)["step"] == 4
    small_run(tmp_path, *other, *early, "resume=true")
    assert metrics_of(run)["step"] == 6


def test_run_without_a_step_is_not_scored(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"before its first step[\s\S]*max_time"):
        small_run(tmp_path, *STEPS, "+trainer.max_time=00:00:00:00")
    assert not (tmp_path / "runs" / "crowd_tiny" / "seed0" / "metrics.json").exists()


@pytest.mark.parametrize("duration", [5, "5 minutes", {"fortnights": 1}])
def test_invalid_time_limit_is_rejected(duration: object) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_time[\s\S]*DD:HH:MM:SS"):
        TimeLimit(duration)
