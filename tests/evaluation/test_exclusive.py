"""Masks that share no pixel: each pixel to the best mask that claims it, nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from cis_seg.evaluation.exclusive import exclusive_instances, exclusive_masks, exclusive_results
from cis_seg.structures import Instances

SIZE = (40, 60)


def rle(x0: int, y0: int, x1: int, y1: int) -> Any:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return coco_mask.encode(mask)


def entry(mask: Any, score: float, image_id: int = 1, category_id: int = 1) -> dict[str, Any]:
    text = {"size": mask["size"], "counts": mask["counts"].decode()}
    return {"image_id": image_id, "category_id": category_id, "score": score, "bbox": [0, 0, 9, 9], "segmentation": text}


def test_random_masks_equal_the_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    masks = (rng.random((12, *SIZE)) < rng.random((12, 1, 1)) * 0.4).astype(np.uint8)
    masks[3] = 0
    found = np.stack([coco_mask.decode(m) for m in exclusive_masks([coco_mask.encode(np.asfortranarray(m)) for m in masks])])
    best = np.where(masks.any(axis=0), masks.argmax(axis=0), -1)
    assert (found == (best == np.arange(12)[:, None, None])).all()
    assert (found.sum(axis=0) <= 1).all()


def test_disjoint_masks_are_unchanged() -> None:
    masks = [rle(0, 0, 10, 10), rle(10, 0, 20, 10), rle(0, 10, 20, 30)]
    assert exclusive_masks(masks) == masks
    assert exclusive_masks([]) == []


def test_instances_without_pixels_are_dropped() -> None:
    masks = (rle(0, 0, 20, 20), rle(5, 5, 15, 15), rle(10, 0, 30, 20))
    instances = Instances(torch.arange(12.0).view(3, 4), torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2]), masks, SIZE)
    found = exclusive_instances(instances)
    assert found.labels.tolist() == [0, 2]
    assert found.scores.tolist() == torch.tensor([0.9, 0.7]).tolist()
    assert found.boxes.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert found.masks == (masks[0], rle(20, 0, 30, 20))
    assert exclusive_instances(exclusive_instances(found)).masks == found.masks


def test_results_are_exclusive_within_an_image_by_score() -> None:
    results = [
        entry(rle(0, 0, 20, 20), 0.5),
        entry(rle(10, 0, 30, 20), 0.9, category_id=2),
        entry(rle(0, 0, 20, 20), 0.1, image_id=2),
        {"image_id": 1, "category_id": 1, "score": 1.0, "bbox": [0, 0, 60, 40]},
    ]
    before = [dict(r) for r in results]
    found = exclusive_results(results)
    assert results == before
    assert [(r["image_id"], r["score"], coco_mask.area(r["segmentation"])) for r in found] == [(1, 0.9, 400), (1, 0.5, 200), (2, 0.1, 400)]
    assert all(isinstance(r["segmentation"]["counts"], str) for r in found)
