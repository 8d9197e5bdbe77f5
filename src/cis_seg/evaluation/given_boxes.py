"""Scores of masks that were predicted for the ground-truth boxes: outlines alone, without detection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins
from cis_seg.structures import RLE

THRESHOLDS = {"iou50": 0.5, "iou75": 0.75}


def given_box_metrics(ground_truth: GroundTruth, masks: Mapping[int, RLE]) -> dict[str, float | None]:
    """Return mean IoU, and the fraction of masks above IoU 0.5 and 0.75, as ``given_boxes/...`` in percent.

    Args:
        ground_truth: has the true masks.
        masks: annotation id -> predicted mask.

    Returns:
        The metrics, each also by crowding (``given_boxes/iou75/crowd_low``); None where no annotation has a mask.
    """
    bins = crowd_bins(ground_truth.annotations)
    ious = {i: float(rle.mask_iou([mask], [ground_truth.coco.anns[i]["segmentation"]])[0, 0]) for i, mask in masks.items()}
    metrics = _scores(list(ious.values()), "")
    for name in CROWD_BINS:
        metrics |= _scores([iou for i, iou in ious.items() if bins[i] == name], f"/crowd_{name}")
    return metrics


def _scores(ious: list[float], suffix: str) -> dict[str, float | None]:
    shares = {name: float(np.mean([iou > threshold for iou in ious])) if ious else None for name, threshold in THRESHOLDS.items()}
    scores = {"mean_iou": float(np.mean(ious)) if ious else None, **shares}
    return {f"given_boxes/{name}{suffix}": None if value is None else 100 * value for name, value in scores.items()}
