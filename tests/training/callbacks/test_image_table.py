"""The figures of one image, on squares whose IoUs are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.structures import Instances
from cis_seg.training.callbacks.wandb_logging.image_table import best_ious, image_row

SIZE = (60, 80)


def square(x: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[20:40, x : x + 20] = 1
    return dict(coco_mask.encode(mask))


def truth(folder: Path, *places: int, crowd: int | None = None) -> GroundTruth:
    """People of 20 x 20 pixels at these x, perhaps with a crowd region, in image 7."""
    annotations = [
        {
            "id": i,
            "image_id": 7,
            "category_id": 1,
            "bbox": [x, 20, 20, 20],
            "area": 400,
            "segmentation": [[x, 20, x + 20, 20, x + 20, 40, x, 40]],
        }
        for i, x in enumerate(places, start=1)
    ]
    if crowd is not None:
        annotations.append(
            {
                **annotations[0],
                "id": 99,
                "bbox": [crowd, 20, 20, 20],
                "iscrowd": 1,
                "segmentation": {**square(crowd), "counts": square(crowd)["counts"].decode()},
            }
        )
    images = [{"id": 7, "height": SIZE[0], "width": SIZE[1]}]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}))
    return GroundTruth(path)


def found(*scored: tuple[int, float]) -> Instances:
    """Detections at these x with these scores."""
    boxes = torch.tensor([[x, 20.0, x + 20, 40] for x, _ in scored]).reshape(-1, 4)
    masks = tuple(square(x) for x, _ in scored)
    labels = torch.zeros(len(scored), dtype=torch.int64)
    return Instances(boxes, torch.tensor([score for _, score in scored]), labels, masks, SIZE)  # type: ignore[arg-type]


def test_metrics_of_one_image(tmp_path: Path) -> None:
    ours = truth(tmp_path, 0, 10, 60, crowd=40)  # the first two share half: IoU 1/3
    row = image_row(ours, 7, found((0, 0.9), (15, 0.5), (60, 0.2)), threshold=0.3)  # the second is met with 15 of 25 columns
    assert (row.image_id, row.people, row.predicted, row.found, row.crowding) == (7, 3, 2, 2, "mid")
    assert row.best_iou == pytest.approx(100 * (1 + 15 / 25 + 0) / 3)
    assert row.overlap_degree == pytest.approx(5 / 40)  # 5 of 20 + 20 columns


def test_an_image_without_people_or_predictions(tmp_path: Path) -> None:
    empty = image_row(truth(tmp_path), 7, found((0, 0.9)), threshold=0.3)
    assert (empty.people, empty.found, empty.best_iou, empty.crowding) == (0, 0, None, "none")
    unseen = image_row(truth(tmp_path, 0), 7, found(), threshold=0.3)
    assert (unseen.predicted, unseen.found, unseen.best_iou, unseen.overlap_degree) == (0, 0, 0.0, None)


def test_prediction_of_another_category_matches_nothing() -> None:
    person = {"category_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0]}
    assert best_ious([person], [{**person, "category_id": 2}], "bbox").tolist() == [0.0]
    assert best_ious([person], [person], "bbox").tolist() == [1.0]
