"""Which options may change when a run is continued."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from cis_seg.config.plain import to_plain
from cis_seg.data.records import ImageRecord, pack
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.training.resume import FIXED, FREE, SCORING, ResumePoint, check_data, check_options, data_metadata, log_changes
from runs import SMALL, composed


def check(path: Path, now: dict[str, Any], *, finished: bool = False) -> None:
    """Compare ``now`` with the checkpoint ``path``, and log what has changed."""
    point = ResumePoint.read(path)
    check_options(point, now, finished=finished)
    log_changes(point, now)


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The config of a small run of 10 steps."""
    return to_plain(composed(*SMALL, "name=run", "schedule.max_steps=10", "schedule.decay_steps=[3,8]", "model.backbone.weights=null"))


@pytest.fixture
def checkpoint(plain: dict[str, Any], tmp_path: Path) -> Path:
    """Of that run after five steps."""
    metadata = {"config": plain, "class_names": ["person"]}
    torch.save({"cis_seg": metadata, "global_step": 5, "optimizer_states": []}, tmp_path / "last.ckpt")
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
    "mixed.least_score": 0.7,
    "optim.batch_size": 4,
    "optim.name": "sgd",
    "optim.accumulate": 2,
    "init_from": "base.ckpt",
    "init_classifier": "fresh",
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
    "eval.area": "mask",
    "eval.score_threshold": 0.1,
    "data.score_train": True,
    "name": "other",
}


@pytest.mark.parametrize("key", REFUSED)
def test_forbidden_changes_are_rejected_by_name(plain: dict[str, Any], checkpoint: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: .* in the checkpoint, .* now \(") as raised:
        check(checkpoint, changed(plain, key, REFUSED[key]))
    assert f"{REFUSED[key]} now" in str(raised.value)
    assert "init_from=" in str(raised.value)


@pytest.mark.parametrize("key", ALLOWED)
def test_allowed_changes_are_logged(plain: dict[str, Any], checkpoint: Path, key: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cis_seg.training.resume"):
        check(checkpoint, changed(plain, key, ALLOWED[key]))
    assert f"{key} is {ALLOWED[key]} now" in caplog.text


def test_all_changes_are_reported_at_once(plain: dict[str, Any], checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.002 in the checkpoint[\s\S]*seed: 0 in the checkpoint, 3 now"):
        check(checkpoint, changed(changed(plain, "seed", 3), "optim.lr", 1.0))


def test_unchanged_options_log_nothing(plain: dict[str, Any], checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = changed(changed(plain, "resume", True), "base_overrides", ["seed=1"])
    with caplog.at_level(logging.INFO):
        check(checkpoint, now)
    assert caplog.text == ""


def test_moved_folder_is_not_a_change(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = to_plain(
        composed(
            *SMALL, "name=run", "schedule.max_steps=10", "schedule.decay_steps=[3,8]", "model.backbone.weights=null", "paths.runs=/moved"
        )
    )
    with caplog.at_level(logging.INFO):
        check(checkpoint, moved)
    assert [line.split(" is ")[0] for line in caplog.messages] == ["resume: paths.runs"]


def test_another_data_set_is_refused(checkpoint: Path) -> None:
    coco = to_plain(composed(*(option for option in SMALL if "num_" not in option), "name=run", "data=coco", "data.root=x"))
    with pytest.raises(ConfigError, match=r"data\.preset: easy in the checkpoint, absent now"):
        check(checkpoint, coco)


def test_weights_alone_are_refused(plain: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"cis_seg": {"config": plain}, "state_dict": {}}, tmp_path / "converted.ckpt")
    with pytest.raises(CheckpointError, match=r"contains weights only[\s\S]*init_from="):
        check(tmp_path / "converted.ckpt", plain)


@pytest.mark.parametrize("key", SCORING)
def test_a_finished_run_does_not_report_the_scores_of_other_options(plain: dict[str, Any], checkpoint: Path, key: str) -> None:
    new = {"eval.area": "mask", "data.score_train": True, "eval.max_detections": 7}.get(key, 0.123)
    with pytest.raises(ConfigError, match=rf"{key}: .* in the checkpoint, {new} now[\s\S]*cis_seg\.evaluate"):
        check(checkpoint, changed(plain, key, new), finished=True)


def test_base_of_a_fine_tune_is_recognised_after_a_move(plain: dict[str, Any], tmp_path: Path) -> None:
    def started(runs: str, base: str) -> dict[str, Any]:
        return changed(changed(plain, "init_from", f"{runs}/{base}/seed0/checkpoints/last.ckpt"), "paths.runs", runs)

    metadata = {"config": started("/old/runs", "a"), "class_names": ["person"]}
    torch.save({"cis_seg": metadata, "global_step": 5, "optimizer_states": []}, tmp_path / "last.ckpt")
    check(tmp_path / "last.ckpt", started("/new/runs", "a"))
    with pytest.raises(ConfigError, match=r"init_from: /old/runs/a/.* in the checkpoint, /new/runs/b/.* now"):
        check(tmp_path / "last.ckpt", started("/new/runs", "b"))


class Data:
    """What is compared of a data module."""

    def __init__(self, names: list[str], classes: tuple[str, ...] = ("person",)) -> None:
        records = pack([ImageRecord(number, name) for number, name in enumerate(names)], with_segmentations=False)
        self.train_dataset = type("Images", (), {"records": records, "__len__": lambda _: len(names)})()
        self.class_names, self.category_ids = classes, tuple(range(len(classes)))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (Data(["a.jpg"]), "number of training images: 2 in the checkpoint, 1 now"),
        (Data(["a.jpg", "c.jpg"]), "file names of the training images: "),
        (Data(["a.jpg", "b.jpg"], ("dog",)), r"classes: \['person'\] in the checkpoint, \['dog'\] now"),
    ],
)
def test_another_data_set_at_the_same_options_is_refused(plain: dict[str, Any], now: Any, found: str) -> None:
    trained: Any = Data(["a.jpg", "b.jpg"])
    point = ResumePoint(Path("last.ckpt"), 5, -1, {"config": plain, **data_metadata(trained)})
    check_data(point, trained)
    with pytest.raises(ConfigError, match=found):
        check_data(point, now)
    check_data(ResumePoint(Path("old.ckpt"), 5, -1, {"config": plain, "class_names": list(now.class_names)}), now)


@pytest.mark.parametrize("key", [*FIXED, *sorted(FREE)])
def test_fixed_and_free_options_exist(plain: dict[str, Any], key: str) -> None:
    inner: Any = plain
    for part in key.split("."):
        assert part in inner
        inner = inner[part]
