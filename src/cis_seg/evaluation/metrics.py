"""COCO's protocol through pycocotools, and the flat dictionary that metrics.json holds.

Plain AP numbers are pycocotools' own, times 100; what it reports as -1 (nothing to measure) is None here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth, silenced
from cis_seg.errors import ConfigError, DataError
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins, floor_results, mask_to_box, mean_overlap_degree
from cis_seg.evaluation.exclusive import exclusive_results

log = logging.getLogger(__name__)

__all__ = ["Curves", "Evaluation", "GroundTruth", "IouType", "Metrics", "evaluate", "floors", "score"]

IouType = Literal["bbox", "segm"]
Metrics = dict[str, float | None]
#: "segm/50", "segm/75", "bbox/50", "bbox/75" -> (101,) precision in [0, 1] at the recalls 0, 0.01, .. 1, by IoU threshold in percent
Curves = dict[str, NDArray[np.float64]]

CURVE_THRESHOLDS = (0.5, 0.75)  # because they are the two that tables name: AP50 and AP75 are the means of these curves
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}  # places in COCOeval.stats
SHOWN_SCORE = 0.3  # CONTRACT: shapes and overlaps are those of predictions scored 0.3 or more, the ones people look at

_floors: WeakKeyDictionary[GroundTruth, Metrics] = WeakKeyDictionary()


@dataclass(frozen=True)
class Evaluation:
    """What one run of COCO's protocol says."""

    metrics: Metrics
    curves: Curves  # empty where nothing could be measured


class _Evaluator(COCOeval):  # type: ignore[misc]
    """COCOeval that lets some annotations differ from the file, without touching the shared ground truth.

    Args:
        changes: for an annotation id, the entries that differ: ``area``, ``ignore``, ``iscrowd``.
        ious: the IoU matrices of an earlier run on the same annotations and detections.
    """

    def __init__(
        self,
        truth: COCO,
        detections: COCO,
        iou_type: IouType,
        changes: dict[int, dict[str, Any]],
        ious: dict[tuple[int, int], Any] | None = None,
    ) -> None:
        super().__init__(truth, detections, iou_type)
        self._changes = changes
        self._known_ious = ious

    def _prepare(self) -> None:
        super()._prepare()
        for key, group in self._gts.items():
            self._gts[key] = [dict(annotation, **self._changes.get(annotation["id"], {})) for annotation in group]

    def computeIoU(self, imgId: int, catId: int) -> Any:  # COCOeval's names
        return super().computeIoU(imgId, catId) if self._known_ious is None else self._known_ious[imgId, catId]


def evaluate(
    ground_truth: GroundTruth,
    results: list[dict[str, Any]],
    *,
    iou_types: Sequence[IouType] = ("bbox", "segm"),
    area: str = "published",
    exclusive: bool = False,
) -> Evaluation:
    """Everything metrics.json says about one scored data set, in percent, and the curves behind its AP50 and AP75.

    The detections' own areas (they decide which unmatched detections count in APs, APm, APl) follow pycocotools'
    ``loadRes``: the box's area where entries have a box, else the mask's.

    Args:
        ground_truth: the truth. Without any mask everything under ``segm/`` is None and there are no floors.
        results: COCO results entries from ``to_results`` or ``read_results``; categories that are not scored are left out.
        iou_types: which of ``bbox`` and ``segm`` to score.
        area: whose areas split small, medium and large: the file's own (``published``) or the true masks' (``mask``; the
            box's where an annotation has no mask). The same areas serve boxes and masks, as in COCO.
        exclusive: also score the masks with each pixel given to the best one of the scored categories, as
            ``segm_exclusive/``.
    Returns:
        As ``metrics`` the keys of CONTRACT.md. ``segm/AP/crowd_*`` ignores the annotations outside the bin; a detection that matches
        nobody counts as wrong in every bin, so bins compare systems, not each other. ``num_annotations`` counts crowd
        regions too.
    Raises:
        DataError: area is ``published`` and the file states none.
    """
    changes = _area_changes(ground_truth, area)
    known = set(ground_truth.category_ids)
    results = [entry for entry in results if entry["category_id"] in known]
    metrics: Metrics = {}
    curves: Curves = {}
    if "segm" in iou_types:
        masks = _score_masks(ground_truth, results, changes)
        metrics, curves = metrics | masks.metrics, curves | masks.curves
        if exclusive and metrics["segm/AP"] is not None:
            metrics |= _score_exclusive(ground_truth, results, changes)
    if "bbox" in iou_types:
        evaluator = _evaluate(ground_truth, _detections(ground_truth, results), "bbox", changes)
        metrics |= _summary(evaluator, ground_truth, "bbox")
        curves |= _curves(evaluator, "bbox")
    metrics["num_images"] = len(ground_truth.images)
    metrics["num_annotations"] = len(ground_truth.annotations)
    return Evaluation(metrics, curves)


def score(
    ground_truth: GroundTruth,
    results: list[dict[str, Any]],
    *,
    iou_types: Sequence[IouType] = ("bbox", "segm"),
    area: str = "published",
    exclusive: bool = False,
) -> Metrics:
    """The metrics of ``evaluate``, which takes the same arguments."""
    return evaluate(ground_truth, results, iou_types=iou_types, area=area, exclusive=exclusive).metrics


def floors(ground_truth: GroundTruth) -> Metrics:
    """AP50 of perfect boxes filled in, and of their inscribed ellipses; the truth's mask area over box area.

    Computed once for each ground truth, because it does not change while a network trains.
    """
    if ground_truth not in _floors:
        own = [a for a in ground_truth.annotations if not a["iscrowd"] and a["id"] not in ground_truth.maskless]
        _floors[ground_truth] = {
            "floor/box_AP50": _floor_ap50(ground_truth, "box"),
            "floor/ellipse_AP50": _floor_ap50(ground_truth, "ellipse"),
            "floor/mask_to_box": mask_to_box(own),
        }
    return dict(_floors[ground_truth])


def _score_masks(ground_truth: GroundTruth, results: list[dict[str, Any]], changes: dict[int, dict[str, Any]]) -> Evaluation:
    masked = [entry for entry in results if entry.get("segmentation")]
    if not ground_truth.has_masks or (results and not masked):
        return Evaluation(_unmeasured(ground_truth), {})
    if len(masked) < len(results):
        log.warning("%d of %d results have no mask and are scored as boxes only", len(results) - len(masked), len(results))
    detections = _detections(ground_truth, masked)
    evaluator = _evaluate(ground_truth, detections, "segm", _ignore_maskless(ground_truth, changes))
    shown = [d for d in detections.dataset["annotations"] if d["score"] >= SHOWN_SCORE]
    metrics: Metrics = {
        **_summary(evaluator, ground_truth, "segm"),
        **_crowd_aps(ground_truth, detections, evaluator),
        **floors(ground_truth),
        "shape/mask_to_box": mask_to_box(shown),
        "overlap/mean_degree": mean_overlap_degree(shown),
    }
    return Evaluation(metrics, _curves(evaluator, "segm"))


def _score_exclusive(ground_truth: GroundTruth, results: list[dict[str, Any]], changes: dict[int, dict[str, Any]]) -> Metrics:
    detections = _detections(ground_truth, exclusive_results(results))
    evaluator = _evaluate(ground_truth, detections, "segm", _ignore_maskless(ground_truth, changes))
    return _summary(evaluator, ground_truth, "segm_exclusive")


def _unmeasured(ground_truth: GroundTruth) -> Metrics:
    """The mask figures where the truth or the results have no masks at all."""
    names = [*STATS, *(f"AP/{name}" for name in ground_truth.category_names), *(f"AP/crowd_{name}" for name in CROWD_BINS)]
    metrics: Metrics = {f"segm/{name}": None for name in names}
    if ground_truth.has_masks:
        metrics |= floors(ground_truth)
    return metrics | {"shape/mask_to_box": None, "overlap/mean_degree": None}


def _area_changes(ground_truth: GroundTruth, area: str) -> dict[int, dict[str, Any]]:
    """What the chosen protocol changes in the annotations' areas."""
    if area == "mask":
        return {a["id"]: {"area": float(rle.area(a["segmentation"]))} for a in ground_truth.annotations}
    if area != "published":
        raise ConfigError(f"unknown area protocol '{area}'", where="eval.area", expected="published or mask")
    lacking = ground_truth.arealess
    if lacking:
        raise DataError(
            f"{len(lacking)} annotations state no area",
            where=f"{ground_truth.path}, first: annotation {lacking[0]}",
            expected="the key area, which splits small, medium and large",
            remedy="use eval.area=mask",
        )
    return {}


def _ignore_maskless(ground_truth: GroundTruth, changes: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Annotations without a mask become regions to ignore, as COCO's crowd regions are."""
    return changes | {i: {**changes.get(i, {}), "ignore": 1, "iscrowd": 1} for i in ground_truth.maskless}


def _detections(ground_truth: GroundTruth, results: list[dict[str, Any]]) -> COCO:
    with silenced():
        if results:
            return ground_truth.coco.loadRes([dict(entry) for entry in results])  # copies: loadRes writes into its entries
        empty = COCO()
        empty.dataset = {**ground_truth.coco.dataset, "annotations": []}
        empty.createIndex()
        return empty


def _evaluate(ground_truth: GroundTruth, detections: COCO, iou_type: IouType, changes: dict[int, dict[str, Any]]) -> _Evaluator:
    with silenced():
        evaluator = _Evaluator(ground_truth.coco, detections, iou_type, changes)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _evaluate_all_sizes(
    ground_truth: GroundTruth,
    detections: COCO,
    changes: dict[int, dict[str, Any]],
    *,
    thresholds: Sequence[float] | None = None,
    ious: dict[tuple[int, int], Any] | None = None,
) -> float | None:
    """Mask AP without the split by size (a quarter of the work), over ``thresholds`` or COCO's ten."""
    with silenced():
        evaluator = _Evaluator(ground_truth.coco, detections, "segm", changes, ious)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], evaluator.params.areaRngLbl[:1]
        if thresholds is not None:
            evaluator.params.iouThrs = np.array(thresholds)
        evaluator.evaluate()
        evaluator.accumulate()
    return _percent(_mean(evaluator.eval["precision"][:, :, :, 0, -1]))


def _floor_ap50(ground_truth: GroundTruth, shape: Literal["box", "ellipse"]) -> float | None:
    detections = _detections(ground_truth, floor_results(ground_truth, shape))
    return _evaluate_all_sizes(ground_truth, detections, _ignore_maskless(ground_truth, {}), thresholds=[0.5])


def _crowd_aps(ground_truth: GroundTruth, detections: COCO, whole: _Evaluator) -> Metrics:
    bins = crowd_bins(ground_truth.annotations)
    metrics: Metrics = {}
    for name in CROWD_BINS:
        changes = _ignore_maskless(ground_truth, {i: {"ignore": 1} for i, own in bins.items() if own != name})
        metrics[f"segm/AP/crowd_{name}"] = _evaluate_all_sizes(ground_truth, detections, changes, ious=whole.ious)
    return metrics


def _summary(evaluator: _Evaluator, ground_truth: GroundTruth, prefix: str) -> Metrics:
    metrics = {f"{prefix}/{name}": _percent(float(evaluator.stats[place])) for name, place in STATS.items()}
    names = dict(zip(ground_truth.category_ids, ground_truth.category_names, strict=True))
    for place, category_id in enumerate(evaluator.params.catIds):
        precision = evaluator.eval["precision"][:, :, place, 0, -1]
        metrics[f"{prefix}/AP/{names[int(category_id)]}"] = _percent(_mean(precision))
    return metrics


def _curves(evaluator: _Evaluator, prefix: IouType) -> Curves:
    """Precision over recall at each of ``CURVE_THRESHOLDS``, of all sizes and 100 detections, the mean over the measured categories."""
    curves: Curves = {}
    for threshold in CURVE_THRESHOLDS:
        place = int(np.flatnonzero(np.isclose(evaluator.params.iouThrs, threshold))[0])
        precision = evaluator.eval["precision"][place, :, :, 0, -1]  # (recalls, categories), -1 where a category has no truth
        measured = (precision > -1).all(axis=0)
        if measured.any():
            curves[f"{prefix}/{100 * threshold:.0f}"] = precision[:, measured].mean(axis=1)
    return curves


def _mean(precision: NDArray[np.float64]) -> float:
    """COCOeval's mean: over the entries that could be measured, -1 where there are none."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else -1.0


def _percent(value: float) -> float | None:
    return None if value == -1 or math.isnan(value) else 100 * value
