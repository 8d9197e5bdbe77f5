"""Runs with supervision=mixed: the limits of only masks and of none, and a stopped run with scores and accumulated steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.commands.annotations import degrade_masks as main
from cis_seg.runtime.signals import Stopped
from faulty import compared, differences, rows_of, sends, state_of
from runs import small_run

LOSS = "train/loss_mask"
STEPS = ("schedule.max_steps=3", "schedule.val_every=3", "schedule.save_every=1")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("boxes"), "name=boxes", *STEPS)


@pytest.fixture(scope="module")
def masks_train(boxes: Path) -> Path:
    """The true masks of the crowd that all small runs share."""
    return boxes.parents[3] / "crowds" / "crowd_easy" / "masks_train.json"


def degraded(masks_train: Path, target: Path, *options: str) -> str:
    """The override that names a file with fewer or worse masks."""
    assert main([str(masks_train), str(target), *options]) == 0
    return f"data.annotations={target}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mask-share", "0"), "0 with a noisy mask (score 0.75 or more)"),
        pytest.param(("--noise", "1"), "noisy masks are not used", marks=pytest.mark.slow),
    ],
)
def test_without_a_usable_mask_it_is_supervision_box(
    options: tuple[str, str], said: str, boxes: Path, masks_train: Path, tmp_path: Path
) -> None:
    annotations = degraded(masks_train, tmp_path / "none.json", *options)
    run = small_run(tmp_path, "name=none", "supervision=mixed", annotations, *STEPS)
    assert differences(state_of(run)["state_dict"], state_of(boxes)["state_dict"]) == []
    assert [float(row[LOSS]) for row in rows_of(run) if LOSS in row] == [0, 0, 0]
    assert f"0 instances with a true mask, {said}" in (run / "card.md").read_text()


@pytest.mark.slow
def test_with_all_masks_it_is_supervision_mask(masks_train: Path, tmp_path: Path) -> None:
    plain = small_run(tmp_path, "name=masks", "supervision=mask", *STEPS)
    run = small_run(tmp_path, "name=all", "supervision=mixed", *STEPS)
    assert differences(state_of(run)["state_dict"], state_of(plain)["state_dict"]) == []


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(masks_train: Path, tmp_path: Path) -> None:
    annotations = degraded(masks_train, tmp_path / "some.json", "--mask-share", "0.5", "--noise", "0.3")
    options = ("supervision=mixed", annotations, "optim.accumulate=2", "loss.weights.overlap=1", "loss.weights.teacher=1")
    whole = small_run(tmp_path, "name=whole", *options, *STEPS)
    with pytest.raises(Stopped):
        small_run(tmp_path, "name=part", *options, *STEPS, *sends(2))
    assert compared(small_run(tmp_path, "name=part", *options, *STEPS, "resume=true"), whole) == []
    assert all(0 < float(row[LOSS]) < 1 for row in rows_of(whole) if LOSS in row)
