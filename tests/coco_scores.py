"""Results that are neither perfect nor hopeless, and what pycocotools says about results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cis_seg.coco.ground_truth import silenced


def jittered(truth_file: Path, seed: int = 0) -> list[dict[str, Any]]:
    """The truth as predictions: shifted, some left out, some doubled, scored at random, with box and mask."""
    rng = np.random.default_rng(seed)
    coco = COCO(str(truth_file))
    results = []
    for annotation in coco.dataset["annotations"]:
        for _ in range(int(rng.integers(0, 3))):
            dy, dx = (int(shift) for shift in rng.integers(-6, 7, 2))
            mask = np.asfortranarray(np.roll(coco.annToMask(annotation), (dy, dx), (0, 1)))
            rle = coco_mask.encode(mask)
            box = [annotation["bbox"][0] + dx, annotation["bbox"][1] + dy, *annotation["bbox"][2:]]
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": box,
                    "score": float(rng.random()),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return results


def pycocotools_scores(truth_file: Path, results_file: Path, kind: str, categories: list[str] | None = None) -> dict[str, float | None]:
    """In percent, by our names; of ``categories`` only, where given. None stands for what is not there to be measured."""
    with silenced():
        truth = COCO(str(truth_file))
        evaluator = COCOeval(truth, truth.loadRes(str(results_file)), kind)
        if categories:
            evaluator.params.catIds = truth.getCatIds(catNms=categories)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}
    values = {name: float(evaluator.stats[place]) for name, place in names.items()}
    return {name: None if value == -1 else 100 * value for name, value in values.items()}
