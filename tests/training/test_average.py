"""The running average of the weights: its update, its place in a checkpoint, and runs that are scored, saved and resumed with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cis_seg.runtime.signals import Stopped
from cis_seg.training.optim import as_network, as_trained, follow, momentum_after
from faulty import compared, sends, state_of
from runs import small_run

STEPS = ("schedule.max_steps=4", "schedule.val_every=4", "schedule.save_every=2")
TEACHER = (
    "data.photometric=light",
    "loss.weights.teacher=1",
    "teacher.ramp_steps=3",
    "teacher.momentum=0.6",
    "teacher.refine=2",
    "teacher.colors=3",
    "teacher.color_rounds=2",
)


def test_the_average_by_hand() -> None:
    average, model = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    seen = []
    for step, value in enumerate((4.0, 7.0, 1.0), start=1):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)  # type: ignore[union-attr]
        model.num_batches_tracked.fill_(step)  # type: ignore[union-attr]
        follow(average, model, momentum_after(step, 0.7))
        seen.append(average.weight.item())
    # from 1: mean of two, mean of three, then momentum 0.7 < 3 / 4
    assert seen == pytest.approx([2.5, 4.0, 3.1])
    assert average.running_mean.item() == pytest.approx(0.7 * (0 + 4 + 7) / 3 + 0.3)  # type: ignore[union-attr]
    assert average.num_batches_tracked.item() == 3  # type: ignore[union-attr]
    model.weight.data.fill_(100.0)
    follow(average, model, 0.7, skipped=torch.tensor(1.0))
    assert average.weight.item() == seen[-1]


def test_place_in_a_checkpoint() -> None:
    state = {"model.a": torch.tensor(1.0), "average.a": torch.tensor(2.0), "criterion.x": torch.tensor(3.0)}
    saved = as_network(state)
    assert saved == {"trained.a": 1, "model.a": 2, "criterion.x": 3}
    assert as_trained(saved, average=True) == as_trained(state, average=True) == state
    older = {"model.a": torch.tensor(1.0)}
    assert as_trained(older, average=False) == older
    assert as_trained(older, average=True) == {"model.a": 1, "average.a": 1}


@pytest.mark.parametrize(
    "options", [pytest.param(("ema=0.6",), marks=pytest.mark.slow), (*TEACHER, "ema=0.6", "optim.batch_size=4", "optim.accumulate=2")]
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    whole = small_run(tmp_path, "name=whole", *STEPS, *options)
    with pytest.raises(Stopped):
        small_run(tmp_path, "name=part", *STEPS, *options, *sends(3))
    run = small_run(tmp_path, "name=part", *STEPS, *options, "resume=true")
    assert compared(run, whole) == []
    state = state_of(whole)["state_dict"]
    names = [name for name in state if name.startswith("model.")]
    assert any(not torch.equal(state[name], state[name.replace("model.", "trained.", 1)]) for name in names)
