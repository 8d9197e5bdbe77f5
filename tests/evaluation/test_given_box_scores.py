"""Masks for the ground-truth boxes: mean IoU and shares by hand."""

import json
from pathlib import Path

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.evaluation.given_boxes import given_box_metrics


def test_numbers_by_hand(tmp_path: Path) -> None:
    def square(i: int, x: int) -> dict[str, object]:
        outline = [[x, 0, x + 10, 0, x + 10, 10, x, 10]]
        return {"id": i, "image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0, "segmentation": outline}

    annotations = [square(0, 0), square(1, 5), square(2, 40)]  # the first two have an IoU of 1 / 3, the third is alone
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 60}], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content | {"annotations": annotations}))
    truth = GroundTruth(tmp_path / "truth.json")
    predicted = ([0, 0, 10, 10], [5, 0, 10, 6], [40, 0, 10, 20])  # IoU 1, 0.6 and 0.5
    masks = {a["id"]: rle.box_mask(box, (20, 60)) for a, box in zip(truth.annotations, predicted, strict=True)}
    metrics = given_box_metrics(truth, masks)
    expected = {"mean_iou": 70.0, "iou50": 200 / 3, "iou75": 100 / 3, "mean_iou/crowd_mid": 80.0, "iou75/crowd_mid": 50.0}
    for name, value in (expected | {"mean_iou/crowd_none": 50.0, "iou50/crowd_none": 0.0}).items():
        found = metrics[f"given_boxes/{name}"]
        assert found is not None
        assert abs(found - value) < 1e-6, name
    assert metrics["given_boxes/mean_iou/crowd_low"] is None
    assert given_box_metrics(truth, {})["given_boxes/mean_iou"] is None
