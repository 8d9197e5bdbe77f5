"""Masks for the ground-truth boxes: mean IoU and shares by hand, by size and crowding, beside filled boxes and ellipses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.evaluation.given_boxes import given_box_metrics


def _square(i: int, x: int, side: int = 10, **changes: object) -> dict[str, object]:
    outline = [[x, 0, x + side, 0, x + side, side, x, side]]
    entry = {"id": i, "image_id": 1, "category_id": 1, "bbox": [x, 0, side, side], "area": side**2, "iscrowd": 0, "segmentation": outline}
    return entry | changes


def _truth(folder: Path, annotations: list[dict[str, object]]) -> GroundTruth:
    images = [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 600}]
    content = {"images": images, "categories": [{"id": 1, "name": "person"}], "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(content))
    return GroundTruth(folder / "truth.json")


def test_numbers_by_hand(tmp_path: Path) -> None:
    """The first two have an IoU of 1 / 3, the third is alone."""
    truth = _truth(tmp_path, [_square(0, 0), _square(1, 5), _square(2, 40)])
    predicted = ([0, 0, 10, 10], [5, 0, 10, 6], [40, 0, 10, 20])  # IoU 1, 0.6 and 0.5
    masks = {a["id"]: rle.box_mask(box, (100, 600)) for a, box in zip(truth.annotations, predicted, strict=True)}
    metrics = given_box_metrics(truth, masks)
    expected = {"mean_iou": 70.0, "iou50": 200 / 3, "iou75": 100 / 3, "mean_iou/crowd_mid": 80.0, "iou75/crowd_mid": 50.0}
    expected |= {"mean_iou/crowd_none": 50.0, "iou50/crowd_none": 0.0}
    assert {name: metrics[f"given_boxes/{name}"] for name in expected} == pytest.approx(expected)
    assert metrics["given_boxes/mean_iou/crowd_low"] is None
    assert given_box_metrics(truth, {})["given_boxes/mean_iou"] is None


def test_sizes_by_the_side_of_the_box(tmp_path: Path) -> None:
    """One annotation on each side of every limit; the IoU of a mask names its annotation."""
    sides = {31: 0.1, 32: 0.2, 47: 0.3, 48: 0.4, 95: 0.5, 96: 0.6}
    annotations = [_square(i, 100 * i, side) for i, side in enumerate(sides)]
    annotations.append(_square(9, 0, 90, iscrowd=1))
    truth = _truth(tmp_path, annotations)
    people = [a for a in truth.annotations if not a["iscrowd"]]
    parts = [[a["bbox"][0], 0, a["bbox"][2], a["bbox"][3] * share] for a, share in zip(people, sides.values(), strict=True)]
    masks = {a["id"]: rle.polygon_mask(_corners(part), (100, 600)) for a, part in zip(people, parts, strict=True)}
    ious = [float(rle.mask_iou([masks[a["id"]]], [a["segmentation"]])[0, 0]) for a in people]
    assert ious == pytest.approx(list(sides.values()), abs=0.02)
    metrics = given_box_metrics(truth, masks)
    members = {"small": ious[:1], "medium": ious[1:5], "large": ious[5:], "48_up": ious[3:]}
    found = {name: metrics[f"given_boxes/mean_iou/size_{name}"] for name in members}
    assert found == pytest.approx({name: 100 * sum(values) / len(values) for name, values in members.items()})
    assert metrics["given_boxes/iou50/size_48_up"] == pytest.approx(100 * sum(iou > 0.5 for iou in ious[3:]) / 3)


def test_baselines_of_the_same_annotations(tmp_path: Path) -> None:
    """A square fills its box; its ellipse covers pi / 4 of it. The annotation that was not predicted counts for none of the three."""
    truth = _truth(
        tmp_path, [_square(0, 0, 90), _square(1, 200, 90), _square(2, 400, 40, segmentation=[[400, 0, 440, 0, 440, 10, 400, 10]])]
    )
    masks = {truth.annotations[i]["id"]: rle.box_mask([0, 0, 0, 0], (100, 600)) for i in (0, 1)}
    metrics = given_box_metrics(truth, masks)
    assert metrics["given_boxes/mean_iou"] == 0
    assert metrics["given_boxes/box/mean_iou"] == 100
    assert metrics["given_boxes/box/iou75/size_48_up"] == 100
    assert metrics["given_boxes/ellipse/mean_iou"] == pytest.approx(100 * math.pi / 4, abs=1)
    assert metrics["given_boxes/ellipse/mean_iou/crowd_none"] == metrics["given_boxes/ellipse/mean_iou"]


def _corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]
