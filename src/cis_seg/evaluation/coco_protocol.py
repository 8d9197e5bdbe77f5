"""COCO's protocol, computed by pycocotools, with changes that leave the ground truth as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cis_seg.coco.ground_truth import GroundTruth, silenced
from cis_seg.runtime.compat import ChangedGroundTruth

IouType = Literal["bbox", "segm"]
Changes = Mapping[int, dict[str, Any]]  # annotation id -> changed entries: ``area``, ``ignore``, ``iscrowd``


class Evaluator(ChangedGroundTruth, COCOeval):  # type: ignore[misc]
    """COCOeval with changed annotations, without modifying the shared ground truth.

    Args:
        changes: annotation id -> changed entries: ``area``, ``ignore``, ``iscrowd``.
        ious: the IoU matrices of an earlier run on the same annotations and detections.
    """

    def __init__(
        self,
        truth: COCO,
        detections: COCO,
        iou_type: IouType,
        changes: Changes,
        ious: dict[tuple[int, int], Any] | None = None,
    ) -> None:
        super().__init__(truth, detections, iou_type)
        self.changes = changes
        self._known_ious = ious

    def computeIoU(self, imgId: int, catId: int) -> Any:  # COCOeval's names
        return super().computeIoU(imgId, catId) if self._known_ious is None else self._known_ious[imgId, catId]


def indexed(ground_truth: GroundTruth, results: list[dict[str, Any]]) -> COCO:
    """Return the results with pycocotools' index."""
    with silenced():
        if results:
            return ground_truth.coco.loadRes([dict(entry) for entry in results])  # copies, because loadRes modifies its entries
        empty = COCO()
        empty.dataset = {**ground_truth.coco.dataset, "annotations": []}
        empty.createIndex()
        return empty


def evaluated(ground_truth: GroundTruth, detections: COCO, iou_type: IouType, changes: Changes) -> Evaluator:
    """Return the evaluator after COCO's whole protocol."""
    with silenced():
        evaluator = Evaluator(ground_truth.coco, detections, iou_type, changes)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def all_sizes(
    ground_truth: GroundTruth,
    detections: COCO,
    iou_type: IouType,
    changes: Changes,
    *,
    thresholds: Sequence[float] | None = None,
    ious: dict[tuple[int, int], Any] | None = None,
) -> tuple[float | None, float | None]:
    """Return AP and AR in percent without the split by size (a quarter of the work), over ``thresholds`` or COCO's ten."""
    with silenced():
        evaluator = Evaluator(ground_truth.coco, detections, iou_type, changes, ious)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], evaluator.params.areaRngLbl[:1]
        if thresholds is not None:
            evaluator.params.iouThrs = np.array(thresholds)
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][:, :, :, 0, -1], evaluator.eval["recall"][:, :, 0, -1]
    return percent(mean_of_measured(precision)), percent(mean_of_measured(recall))


def mean_of_measured(precision: NDArray[np.float64]) -> float:
    """Return COCOeval's mean over the measured entries, -1 without any."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else -1.0


def percent(value: float) -> float | None:
    """Return a score in percent; None for pycocotools' -1 (nothing to measure)."""
    return None if value == -1 or math.isnan(value) else 100 * value
