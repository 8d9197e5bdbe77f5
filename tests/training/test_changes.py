"""Which options may change when a run is continued."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from cis_seg.config.plain import to_plain
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.training.resume import FIXED, FREE, check_changes
from runs import SMALL, composed

IMAGES = 8


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The config of a small run of 10 steps."""
    return to_plain(composed(*SMALL, "name=run", "schedule.max_steps=10", "schedule.decay_steps=[3,8]", "model.backbone.weights=null"))


@pytest.fixture
def checkpoint(plain: dict[str, Any], tmp_path: Path) -> Path:
    """Of that run after five steps."""
    card = {"config": plain, "class_names": ["person"], "train_images": IMAGES}
    torch.save({"cis_seg": card, "global_step": 5, "optimizer_states": []}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def changed(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy in which one dotted key has another value."""
    now = copy.deepcopy(plain)
    *parents, leaf = key.split(".")
    inner = now
    for parent in parents:
        inner = inner[parent]
    assert leaf in inner, f"{key} is no option"
    inner[leaf] = value
    return now


REFUSED = {
    "seed": 1,
    "supervision": "mask",
    "model.head_channels": 32,
    "model.backbone.depth": 50,
    "data.train_sizes": [128],
    "data.annotations": "other.odgt",
    "data.preset": "real",
    "loss.weights.overlap": 2.0,
    "loss.pairwise.color_thresh": 0.2,
    "optim.batch_size": 4,
    "optim.name": "sgd",
    "optim.accumulate": 2,
    "eval.area": "mask",
    "trainer.precision": "bf16-mixed",
    "schedule.decay_steps": [4, 8],
    "schedule.max_steps": 4,
}
ALLOWED = {
    "schedule.max_steps": 20,
    "schedule.decay_steps": [3, 15],
    "schedule.val_every": 7,
    "schedule.save_every": 3,
    "data.workers": 4,
    "data.root": "/elsewhere/crowd",
    "trainer.devices": 2,
    "eval.draw_threshold": 0.5,
    "name": "other",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_must_not_change_is_refused_by_name(plain: dict[str, Any], checkpoint: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: .* in the checkpoint, .* now \(") as raised:
        check_changes(checkpoint, changed(plain, key, REFUSED[key]), images=IMAGES)
    assert f"{REFUSED[key]} now" in str(raised.value)
    assert "init_from=" in str(raised.value)


@pytest.mark.parametrize("key", ALLOWED)
def test_what_may_change_is_logged(plain: dict[str, Any], checkpoint: Path, key: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cis_seg.training.resume"):
        check_changes(checkpoint, changed(plain, key, ALLOWED[key]), images=IMAGES)
    assert f"{key} is {ALLOWED[key]} now" in caplog.text


def test_all_mistakes_at_once(plain: dict[str, Any], checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.002 in the checkpoint[\s\S]*seed: 0 in the checkpoint, 3 now"):
        check_changes(checkpoint, changed(changed(plain, "seed", 3), "optim.lr", 1.0), images=IMAGES)


def test_nothing_changed_says_nothing(plain: dict[str, Any], checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = changed(changed(plain, "resume", True), "init_from", "base.ckpt")
    with caplog.at_level(logging.INFO):
        check_changes(checkpoint, now, images=IMAGES)
    assert caplog.text == ""


def test_a_folder_that_moved_is_no_change(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = to_plain(
        composed(
            *SMALL, "name=run", "schedule.max_steps=10", "schedule.decay_steps=[3,8]", "model.backbone.weights=null", "paths.runs=/moved"
        )
    )
    with caplog.at_level(logging.INFO):
        check_changes(checkpoint, moved, images=IMAGES)
    assert [line.split(" is ")[0] for line in caplog.messages] == ["resume: paths.runs"]


def test_another_data_set_is_refused(checkpoint: Path) -> None:
    coco = to_plain(composed(*(option for option in SMALL if "num_" not in option), "name=run", "data=coco", "data.root=x"))
    with pytest.raises(ConfigError, match=r"data\.preset: easy in the checkpoint, absent now"):
        check_changes(checkpoint, coco, images=IMAGES)


def test_weights_alone_are_refused(plain: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"cis_seg": {"config": plain}, "state_dict": {}}, tmp_path / "converted.ckpt")
    with pytest.raises(CheckpointError, match=r"holds weights alone[\s\S]*init_from="):
        check_changes(tmp_path / "converted.ckpt", plain, images=IMAGES)


def test_another_number_of_images_is_refused(plain: dict[str, Any], checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="number of training images: 8 in the checkpoint, 7 now"):
        check_changes(checkpoint, plain, images=IMAGES - 1)


@pytest.mark.parametrize("key", [*FIXED, *sorted(FREE)])
def test_the_table_names_options_that_exist(plain: dict[str, Any], key: str) -> None:
    inner: Any = plain
    for part in key.split("."):
        assert part in inner
        inner = inner[part]
