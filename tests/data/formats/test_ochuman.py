"""OCHuman's json, made up in its format: conversion, scores by MaxIoU, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.commands.to_coco import ochuman_to_coco as main
from cis_seg.data.formats import ochuman
from cis_seg.data.formats.ochuman import ochuman_to_coco
from cis_seg.errors import DataError
from cis_seg.evaluation.metrics import score

SIZE = {"height": 60, "width": 100}


def ring(x: int, y: int, width: int, height: int) -> list[int]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def person(box: tuple[int, int, int, int], max_iou: float, *, hole: bool = False, masked: bool = True) -> dict[str, Any]:
    x, y, width, height = box
    segms = {"outer": [ring(*box)], "inner": [ring(x + 5, y + 5, 4, 4)] if hole else [], **SIZE}
    return {"bbox": [x, y, x + width, y + height], "keypoints": None, "segms": segms if masked else None, "max_iou": max_iou}


@pytest.fixture
def content() -> dict[str, Any]:
    """Two images of people with masks, not in the order of their ids, and one of a person without."""
    moderate, hard = person((10, 10, 20, 40), 0.6, hole=True), person((50, 10, 20, 40), 0.8)
    return {
        "keypoint_names": ["nose"],
        "keypoint_visible": {"missing": 0},
        "images": [
            {"image_id": "000012", "file_name": "b.jpg", **SIZE, "annotations": [person((30, 5, 20, 40), 0.75)]},
            {"image_id": "000002", "file_name": "a.jpg", **SIZE, "annotations": [moderate, person((0, 0, 9, 9), 0.5, masked=False), hard]},
            {"image_id": "000001", "file_name": "c.jpg", **SIZE, "annotations": [person((0, 0, 9, 9), 0.5, masked=False)]},
        ],
    }


def written(folder: Path, content: Any) -> Path:
    path = folder / "ochuman.json"
    path.write_text(json.dumps(content))
    return path


def test_people_with_masks_become_annotations(content: dict[str, Any], tmp_path: Path) -> None:
    converted = ochuman_to_coco(written(tmp_path, content))
    assert [(image["id"], image["file_name"]) for image in converted["images"]] == [(1, "a.jpg"), (2, "b.jpg")]
    facts = [(a["id"], a["image_id"], a["bbox"], a["area"], a["max_iou"]) for a in converted["annotations"]]
    assert facts == [(1, 1, [10, 10, 20, 40], 800, 0.6), (2, 1, [50, 10, 20, 40], 800, 0.8), (3, 2, [30, 5, 20, 40], 800, 0.75)]
    assert [rle.area(a["segmentation"]) for a in converted["annotations"]] == [800 - 16, 800, 800]  # the hole is not part of the mask
    assert rle.decode(converted["annotations"][0]["segmentation"])[16, 16] == 0


def test_scores_by_the_stated_max_iou(content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, content)), str(tmp_path / "new" / "coco.json")]) == 0
    assert "2 images, 3 people with masks" in capsys.readouterr().out
    truth = GroundTruth(tmp_path / "new" / "coco.json")
    first, second, _ = truth.annotations
    scores = score(truth, [{**first, "score": 0.9}, {**second, "score": 0.8}]).metrics
    assert scores["occlusion/segm_AP/moderate"] == pytest.approx(100)
    assert (scores["occlusion/segm_AR/moderate"], scores["occlusion/segm_AR/hard"]) == (pytest.approx(100), pytest.approx(50))


def test_the_first_images_are_the_validation_set(content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ochuman, "PARTS", {"val": slice(1), "test": slice(1, None)})
    path = written(tmp_path, content)
    parts = {part: [image["file_name"] for image in ochuman_to_coco(path, part)["images"]] for part in ("val", "test")}
    assert parts == {"val": ["a.jpg"], "test": ["b.jpg"]}


def test_refusals(content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = {"images": [{"id": 1}], "annotations": [], "categories": []}
    with pytest.raises(DataError, match=r"not OCHuman's file(.|\n)*need no conversion"):
        ochuman_to_coco(written(tmp_path, coco))
    broken: dict[str, Any] = {"bbox": [5, 5, 1, 9], "max_iou": 1.5, "segms": {"outer": [[1, 2, 3]], "inner": [], **SIZE}}
    for key, message in {"bbox": "usable box", "max_iou": "usable max_iou", "segms": "usable mask"}.items():
        changed = json.loads(json.dumps(content))
        changed["images"][1]["annotations"][0][key] = broken[key] if key != "segms" else {**broken[key], "height": 61}
        with pytest.raises(DataError, match=rf"{message}(.|\n)*'000002'"):
            ochuman_to_coco(written(tmp_path, changed))
    assert main([str(tmp_path / "absent.json"), str(tmp_path / "out.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
