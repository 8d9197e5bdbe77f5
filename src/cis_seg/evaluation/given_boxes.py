"""Scores of masks that were predicted for the ground-truth boxes: outlines alone, without detection.

Keys of the metrics: ``given_boxes/[SHAPE/]SCORE[/GROUP]``. SHAPE is a baseline, ``box`` or ``ellipse``; SCORE is ``mean_iou``, ``iou50`` or
``iou75``; GROUP is a size or a crowding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.evaluation.baselines import CROWD_BINS, baseline_masks, crowd_bins
from cis_seg.structures import RLE

THRESHOLDS = {"iou50": 0.5, "iou75": 0.75}
#: group -> square root of the box's area in pixels, from and below; COCO's limits, and boxes in which body parts can be told apart
SIZES = {"size_small": (0.0, 32.0), "size_medium": (32.0, 96.0), "size_large": (96.0, math.inf), "size_48_up": (48.0, math.inf)}


def given_box_metrics(ground_truth: GroundTruth, masks: Mapping[int, RLE]) -> dict[str, float | None]:
    """Return mean IoU, and the fraction of masks above IoU 0.5 and 0.75, as ``given_boxes/...`` in percent.

    Args:
        ground_truth: has the true masks.
        masks: annotation id -> predicted mask.

    Returns:
        The metrics of the predicted masks, and of the filled boxes and ellipses of the same annotations; each also by size
        (``given_boxes/iou75/size_large``) and by crowding (``given_boxes/iou75/crowd_low``). None where no annotation has a mask.
    """
    groups = _groups(ground_truth, masks)
    metrics: dict[str, float | None] = {}
    baselines = {"box/": baseline_masks(ground_truth, "box"), "ellipse/": baseline_masks(ground_truth, "ellipse")}
    for shape, drawn in ({"": masks} | baselines).items():
        ious = {i: float(rle.mask_iou([drawn[i]], [ground_truth.coco.anns[i]["segmentation"]])[0, 0]) for i in masks}
        for group, members in groups.items():
            scores = _scores([ious[i] for i in members])
            metrics |= {f"given_boxes/{shape}{score}{group}": value for score, value in scores.items()}
    return metrics


def _groups(ground_truth: GroundTruth, masks: Mapping[int, RLE]) -> dict[str, list[int]]:
    """Return the annotation ids of ``masks`` in each group, by the end of its keys."""
    bins = crowd_bins(ground_truth.annotations)
    groups = {"": list(masks)} | {f"/crowd_{name}": [i for i in masks if bins[i] == name] for name in CROWD_BINS}
    for name, (low, high) in SIZES.items():
        groups[f"/{name}"] = [i for i in masks if low <= _side(ground_truth.coco.anns[i]["bbox"]) < high]
    return groups


def _side(box: list[float]) -> float:
    return math.sqrt(box[2] * box[3])


def _scores(ious: list[float]) -> dict[str, float | None]:
    if not ious:
        return dict.fromkeys(["mean_iou", *THRESHOLDS])
    shares = {name: 100 * float(np.mean([iou > threshold for iou in ious])) for name, threshold in THRESHOLDS.items()}
    return {"mean_iou": 100 * float(np.mean(ious)), **shares}
