"""COCO's protocol with pycocotools, and the flat dictionary of metrics.json.

AP values are those of pycocotools times 100; its -1 (nothing to measure) becomes None.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import GroundTruth, check_areas
from cis_seg.errors import ConfigError
from cis_seg.evaluation.baselines import (
    CROWD_BINS,
    OCCLUSION_RANGES,
    baseline_results,
    crowd_bins,
    mask_to_box,
    mean_overlap_degree,
    occlusion_ranges,
)
from cis_seg.evaluation.coco_protocol import (
    Changes,
    Evaluator,
    IouType,
    all_sizes,
    evaluated,
    indexed,
    mean_of_measured,
    percent,
)
from cis_seg.evaluation.crowdhuman import crowdhuman_metrics
from cis_seg.evaluation.exclusive import exclusive_results

log = logging.getLogger(__name__)

__all__ = ["Curves", "Evaluation", "GroundTruth", "Metrics", "baselines", "score"]

Metrics = dict[str, float | None]
#: "segm/50", "segm/75", "bbox/50", "bbox/75" -> (101,) precision in [0, 1] at the recalls 0, 0.01, ..., 1, by IoU threshold in percent
Curves = dict[str, NDArray[np.float64]]

CURVE_THRESHOLDS = (0.5, 0.75)  # those of tables: AP50 and AP75 are the means of these curves
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}  # indices in COCOeval.stats
SHOWN_SCORE = 0.3  # shapes and overlaps are measured on the predictions that overlays draw

_baselines: WeakKeyDictionary[GroundTruth, Metrics] = WeakKeyDictionary()


@dataclass(frozen=True)
class Evaluation:
    """The result of COCO's protocol."""

    metrics: Metrics
    curves: Curves  # empty if nothing can be measured


def score(
    ground_truth: GroundTruth,
    results: list[dict[str, Any]],
    *,
    iou_types: Sequence[IouType] = ("bbox", "segm"),
    area: str = "published",
    exclusive: bool = False,
) -> Evaluation:
    """Compute the metrics of metrics.json for one data set, in percent, and the curves behind AP50 and AP75.

    The areas of detections decide which unmatched ones count in APs, APm and APl. They follow pycocotools' ``loadRes``: the area of the
    box if an entry has one, else that of the mask.

    Args:
        ground_truth: without any mask, everything under ``segm/`` is None and there are no baselines.
        results: COCO results entries from ``to_results`` or ``read_results``; categories that are not scored are skipped.
        iou_types: which of ``bbox`` and ``segm`` to score.
        area: areas that split small, medium and large: those of the file (``published``) or of the ground-truth masks (``mask``; of the
            box for annotations without a mask). They apply to boxes and masks, as in COCO.
        exclusive: also score exclusive masks (``exclusive_results``) as ``segm_exclusive/``.

    Returns:
        Metrics and curves. ``segm/AP/crowd_*`` and ``occlusion/*`` ignore the annotations outside the bin; an unmatched detection counts
        as wrong in every bin, so bins can be compared between systems but not with each other. ``num_annotations`` includes ignore
        regions.

    Raises:
        DataError: area is ``published`` and the file has no areas.
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
        evaluator = evaluated(ground_truth, indexed(ground_truth, results), "bbox", changes)
        metrics |= _summary(evaluator, ground_truth, "bbox") | _occlusion_scores(ground_truth, evaluator, "bbox")
        curves |= _curves(evaluator, "bbox")
        if ground_truth.crowd is not None:
            metrics |= crowdhuman_metrics(ground_truth.crowd, results)
    metrics["num_images"] = len(ground_truth.images)
    metrics["num_annotations"] = len(ground_truth.annotations)
    return Evaluation(metrics, curves)


def baselines(ground_truth: GroundTruth) -> Metrics:
    """Return AP50 of filled ground-truth boxes and of their inscribed ellipses, and the ground truth's mask area over box area.

    Computed once per ground truth, because it does not change during training.
    """
    if ground_truth not in _baselines:
        own = [a for a in ground_truth.annotations if not a["iscrowd"] and a["id"] not in ground_truth.maskless]
        _baselines[ground_truth] = {
            "floor/box_AP50": _baseline_ap50(ground_truth, "box"),
            "floor/ellipse_AP50": _baseline_ap50(ground_truth, "ellipse"),
            "floor/mask_to_box": mask_to_box(own),
        }
    return dict(_baselines[ground_truth])


def _score_masks(ground_truth: GroundTruth, results: list[dict[str, Any]], changes: Changes) -> Evaluation:
    masked = [entry for entry in results if entry.get("segmentation")]
    if not ground_truth.has_masks or (results and not masked):
        return Evaluation(_unmeasured(ground_truth), {})
    if len(masked) < len(results):
        log.warning("%d of %d results have no mask and are scored as boxes only", len(results) - len(masked), len(results))
    detections = indexed(ground_truth, masked)
    evaluator = evaluated(ground_truth, detections, "segm", _ignore_maskless(ground_truth, changes))
    shown = [d for d in detections.dataset["annotations"] if d["score"] >= SHOWN_SCORE]
    metrics: Metrics = {
        **_summary(evaluator, ground_truth, "segm"),
        **_crowd_scores(ground_truth, evaluator),
        **_occlusion_scores(ground_truth, evaluator, "segm"),
        **baselines(ground_truth),
        "shape/mask_to_box": mask_to_box(shown),
        "overlap/mean_degree": mean_overlap_degree(shown),
    }
    return Evaluation(metrics, _curves(evaluator, "segm"))


def _score_exclusive(ground_truth: GroundTruth, results: list[dict[str, Any]], changes: Changes) -> Metrics:
    detections = indexed(ground_truth, exclusive_results(results))
    evaluator = evaluated(ground_truth, detections, "segm", _ignore_maskless(ground_truth, changes))
    return _summary(evaluator, ground_truth, "segm_exclusive")


def _unmeasured(ground_truth: GroundTruth) -> Metrics:
    """Return the mask metrics if the ground truth or the results have no masks."""
    groups = [f"{score}/crowd_{name}" for score in ("AP", "AR") for name in CROWD_BINS]
    metrics: Metrics = {f"segm/{name}": None for name in (*STATS, *(f"AP/{name}" for name in ground_truth.category_names), *groups)}
    metrics |= {f"occlusion/segm_{score}/{name}": None for score in ("AP", "AR") for name in OCCLUSION_RANGES}
    if ground_truth.has_masks:
        metrics |= baselines(ground_truth)
    return metrics | {"shape/mask_to_box": None, "overlap/mean_degree": None}


def _area_changes(ground_truth: GroundTruth, area: str) -> dict[int, dict[str, Any]]:
    """Return the annotations' areas that the protocol changes."""
    if area == "mask":
        return {a["id"]: {"area": float(rle.area(a["segmentation"]))} for a in ground_truth.annotations}
    if area != "published":
        raise ConfigError(f"unknown area protocol '{area}'", where="eval.area", expected="published or mask")
    check_areas(ground_truth.arealess, area, ground_truth.path)
    return {}


def _ignore_maskless(ground_truth: GroundTruth, changes: Changes) -> Changes:
    """Treat annotations without a mask as ignore regions, like COCO's crowd regions."""
    return {**changes} | {i: {**changes.get(i, {}), "ignore": 1, "iscrowd": 1} for i in ground_truth.maskless}


def _baseline_ap50(ground_truth: GroundTruth, shape: Literal["box", "ellipse"]) -> float | None:
    detections = indexed(ground_truth, baseline_results(ground_truth, shape))
    return all_sizes(ground_truth, detections, "segm", _ignore_maskless(ground_truth, {}), thresholds=[0.5])[0]


def _crowd_scores(ground_truth: GroundTruth, whole: Evaluator) -> Metrics:
    bins = crowd_bins(ground_truth.annotations)
    scores = {name: _group_scores(ground_truth, whole, bins, name, "segm") for name in CROWD_BINS}
    return {f"segm/AP/crowd_{name}": ap for name, (ap, _) in scores.items()} | {
        f"segm/AR/crowd_{name}": recall for name, (_, recall) in scores.items()
    }


def _occlusion_scores(ground_truth: GroundTruth, whole: Evaluator, kind: IouType) -> Metrics:
    ranges = occlusion_ranges(ground_truth.annotations)
    scores = {name: _group_scores(ground_truth, whole, ranges, name, kind) for name in OCCLUSION_RANGES}
    return {f"occlusion/{kind}_{score}/{name}": pair[place] for place, score in enumerate(("AP", "AR")) for name, pair in scores.items()}


def _group_scores(
    ground_truth: GroundTruth, whole: Evaluator, groups: Mapping[int, str], name: str, kind: IouType
) -> tuple[float | None, float | None]:
    """Return AP and AR of the annotations of one of ``groups`` (by annotation id); the others are ignored, as ``whole`` saw them all."""
    if name not in groups.values():
        return None, None
    changes: Changes = {i: {"ignore": 1} for i, own in groups.items() if own != name}
    if kind == "segm":
        changes = _ignore_maskless(ground_truth, changes)
    return all_sizes(ground_truth, whole.cocoDt, kind, changes, ious=whole.ious)


def _summary(evaluator: Evaluator, ground_truth: GroundTruth, prefix: str) -> Metrics:
    metrics = {f"{prefix}/{name}": percent(float(evaluator.stats[place])) for name, place in STATS.items()}
    names = dict(zip(ground_truth.category_ids, ground_truth.category_names, strict=True))
    for place, category_id in enumerate(evaluator.params.catIds):
        precision = evaluator.eval["precision"][:, :, place, 0, -1]
        metrics[f"{prefix}/AP/{names[int(category_id)]}"] = percent(mean_of_measured(precision))
    return metrics


def _curves(evaluator: Evaluator, prefix: IouType) -> Curves:
    """Return precision over recall at ``CURVE_THRESHOLDS`` for all sizes and 100 detections, averaged over the measured categories."""
    curves: Curves = {}
    for threshold in CURVE_THRESHOLDS:
        place = int(np.flatnonzero(np.isclose(evaluator.params.iouThrs, threshold))[0])
        precision = evaluator.eval["precision"][place, :, :, 0, -1]  # (recalls, categories), -1 for a category without ground truth
        measured = (precision > -1).all(axis=0)
        if measured.any():
            curves[f"{prefix}/{100 * threshold:.0f}"] = precision[:, measured].mean(axis=1)
    return curves
