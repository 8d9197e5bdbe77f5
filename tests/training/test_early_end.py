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

#: without pictures and the network's summary, which say nothing about where a run stops
STEPS = ("schedule.max_steps=4", "schedule.val_every=3", "schedule.save_every=100", "callbacks.overlays=null", "callbacks.card=null")


class StopAfter(L.Callback):
    """Asks the trainer to stop, within a step if that is accumulated."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: L.Trainer, *args: object) -> None:
        trainer.should_stop = trainer.fit_loop.total_batch_idx + 1 == self.batch


LIMIT = ("+callbacks.slow._target_=faulty.Slow", "+callbacks.slow.step=1", "+callbacks.slow.seconds=1", "+trainer.max_time=00:00:00:01")
STOP = ("+callbacks.stop._target_=test_early_end.StopAfter", "+callbacks.stop.batch=3")


@pytest.mark.parametrize(
    ("accumulate", "stop", "steps", "cause"),
    [
        (1, LIMIT, (1, 2), "the time limit (trainer.max_time)"),  # of each start
        (2, STOP, (2,), "test_early_end.StopAfter"),
    ],
)
def test_ended_run_is_saved_scored_and_resumed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    accumulate: int,
    stop: tuple[str, ...],
    steps: tuple[int, ...],
    cause: str,
) -> None:
    common = (*STEPS, "data.photometric=light", f"optim.accumulate={accumulate}", "optim.batch_size=2")
    run = tmp_path / "runs" / "part" / "seed0"
    for step in steps:
        cfg = composed(*SMALL, *places(tmp_path), "name=part", *common, *stop, f"resume={str(step != steps[0]).lower()}")
        train(cfg, ["name=part", "resume=false"])
        assert metrics_of(run)["step"] == step
        assert metrics_of(run)["num_images"] == 3
        assert f"{cause} ended the run after step {step} of 4" in caplog.text
        assert f"saved in {run}/checkpoints/last.ckpt\n  continue with: python -m cis_seg.train name=part resume=true" in caplog.text
        assert f"after {step} steps" in capsys.readouterr().err
    small_run(tmp_path, "name=part", *common, "resume=true")
    whole = small_run(tmp_path, "name=whole", *common)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert differences(state_of(run)[part], state_of(whole)[part]) == []
    assert metrics_of(run) == metrics_of(whole)


def test_run_ended_by_early_stopping_can_be_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/score", "mode": "max", "patience": 1}
    early = [*(f"+callbacks.early.{option}={value}" for option, value in stopping.items()), "optim.lr=0.0", "schedule.val_every=1"]
    run = small_run(tmp_path, *STEPS, *early)
    assert metrics_of(run)["step"] == 2
    assert "early stopping (Monitored metric val/score did not improve in the last 1 records" in caplog.text
    small_run(tmp_path, *STEPS, *early, "resume=true")
    assert metrics_of(run)["step"] == 3


def test_run_without_a_step_is_not_scored(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"before its first step[\s\S]*found: the time limit \(trainer\.max_time\) stopped it"):
        small_run(tmp_path, *STEPS, "+trainer.max_time=00:00:00:00")
    assert not (tmp_path / "runs" / "crowd_tiny" / "seed0" / "metrics.json").exists()


@pytest.mark.parametrize("duration", [5, "5 minutes", {"fortnights": 1}])
def test_invalid_time_limit_is_rejected(duration: object) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_time[\s\S]*DD:HH:MM:SS"):
        TimeLimit(duration)
