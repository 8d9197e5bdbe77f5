"""Metrics beside AP: the score of perfect boxes without masks, how much masks fill their boxes, how much they overlap.

Legend: boxes are COCO's [x, y, width, height]; entries are COCO results or annotations with RLE masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.coco.boxes import corners, inside, largest_iou
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import by_image
from cis_seg.structures import RLE

ELLIPSE_CORNERS = 72  # a 72-gon has 99.9 % of its ellipse's area, and polygons become RLEs without a canvas
SMALL_ELLIPSE = 0.9  # people fill less of their box than its ellipse does; the best of these baselines on CIS
CROWD_BINS = ("none", "low", "mid", "high")
OCCLUSION_RANGES = {"moderate": (0.5, 0.75), "hard": (0.75, float("inf"))}  # lower limit included, upper one not
BaselineShape = Literal["box", "ellipse", "small_ellipse"]


def _clipped(box: list[float], size: tuple[int, int]) -> list[float]:
    """Return the part of a box inside its image of (height, width); all 0 if empty."""
    whole = corners(box)
    x0, y0, x1, y1 = (whole and inside(whole, size)) or (0.0, 0.0, 0.0, 0.0)
    return [x0, y0, x1 - x0, y1 - y0]


def _ellipse_mask(box: list[float], size: tuple[int, int]) -> RLE:
    """Return the ellipse inscribed in a box as an RLE of ``size`` (height, width)."""
    angles = np.arange(ELLIPSE_CORNERS) * (2 * np.pi / ELLIPSE_CORNERS)
    x, y = box[0] + box[2] / 2 * (1 + np.cos(angles)), box[1] + box[3] / 2 * (1 + np.sin(angles))
    return rle.polygon_mask(np.stack([x, y], axis=1).ravel().tolist(), size)


def _small_ellipse_mask(box: list[float], size: tuple[int, int]) -> RLE:
    rim = (1 - SMALL_ELLIPSE) / 2
    smaller = [box[0] + rim * box[2], box[1] + rim * box[3], SMALL_ELLIPSE * box[2], SMALL_ELLIPSE * box[3]]
    return _ellipse_mask(smaller, size)


def baseline_masks(ground_truth: GroundTruth, shape: BaselineShape) -> dict[int, RLE]:
    """Return a mask drawn from the box of each annotation, by annotation id in their order.

    Args:
        ground_truth: its ignore regions and annotations without a mask are skipped.
        shape: ``box`` fills the box (clipped to the image), ``ellipse`` the ellipse inscribed in it, ``small_ellipse`` an ellipse of
            ``SMALL_ELLIPSE`` times its width and height around the same centre.
    """
    draw = {"box": rle.box_mask, "ellipse": _ellipse_mask, "small_ellipse": _small_ellipse_mask}[shape]
    masks = {}
    for annotation in ground_truth.annotations:
        if not annotation["iscrowd"] and annotation["id"] not in ground_truth.maskless:
            size = ground_truth.image_size(annotation["image_id"])
            masks[annotation["id"]] = draw(_clipped(annotation["bbox"], size), size)
    return masks


def baseline_results(ground_truth: GroundTruth, shape: BaselineShape) -> list[dict[str, Any]]:
    """Return the results of a detector with perfect boxes and ``baseline_masks``: one entry per mask, all with score 1."""
    results = []
    for i, mask in baseline_masks(ground_truth, shape).items():
        copied = {key: ground_truth.coco.anns[i][key] for key in ("image_id", "category_id", "bbox")}
        results.append({**copied, "score": 1.0, "segmentation": mask})
    return results


def mask_to_box(entries: Iterable[dict[str, Any]]) -> float | None:
    """Return the median over entries of mask area / box area; None without entries.

    Boxes smaller than a pixel are skipped: an untrained network predicts such boxes, and the ratio would be meaningless.
    """
    areas = [(float(rle.area(e["segmentation"])), e["bbox"][2] * e["bbox"][3]) for e in entries]
    ratios = [mask / box for mask, box in areas if box >= 1]
    return float(np.median(ratios)) if ratios else None


def mean_overlap_degree(entries: Iterable[dict[str, Any]]) -> float | None:
    """Return the mean over images of the mean overlap degree (Eq. 1) of the pairs of masks with touching boxes; None without pairs.

    Eq. 1 of two binary masks is |A and B| / (|A| + |B|) = IoU / (1 + IoU), so one RLE IoU matrix per image suffices and no mask is
    decoded. Boxes touch if they share a point.
    """
    means = []
    for group in by_image(entries).values():
        touching = _touching(np.array([entry["bbox"] for entry in group], dtype=np.float64))
        if touching.any():
            masks = [entry["segmentation"] for entry in group]
            iou = rle.mask_iou(masks, masks)[touching]
            means.append(float((iou / (1 + iou)).mean()))
    return float(np.mean(means)) if means else None


def _touching(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether boxes (N, 4) share a point, (N, N) bool; each pair once, above the diagonal."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    shared = np.minimum(high[:, None], high[None]) >= np.maximum(low[:, None], low[None])
    return np.triu(shared.all(axis=2), k=1)


def crowd_bins(annotations: Iterable[dict[str, Any]]) -> dict[int, str]:
    """Return the crowding of each annotation, by the largest IoU of its box with another one of its category in the image.

    ``none`` 0, ``low`` below 0.3, ``mid`` 0.3 to 0.5, ``high`` above 0.5. Ignore regions have no bin and are not counted as neighbours.
    """
    return {
        number: "none" if largest == 0 else "low" if largest < 0.3 else "mid" if largest <= 0.5 else "high"
        for number, largest in _largest_ious(annotations).items()
    }


def occlusion_ranges(annotations: Iterable[dict[str, Any]]) -> dict[int, str]:
    """Return OCHuman's degree of occlusion of each annotation (Zhang et al., Pose2Seg, arXiv:1803.10683, section 4).

    MaxIoU is the annotation's own ``max_iou`` (OCHuman's file states it, over people who may lack a mask), or else the largest IoU of its
    box with another one of its category in the image: ``moderate`` 0.5 to 0.75, ``hard`` 0.75 and more, an empty text below.
    """
    annotations = list(annotations)
    stated = {a["id"]: a["max_iou"] for a in annotations if a.get("max_iou") is not None}
    ranges = {}
    for number, largest in _largest_ious(annotations).items():
        value = stated.get(number, largest)
        ranges[number] = next((name for name, (low, high) in OCCLUSION_RANGES.items() if low <= value < high), "")
    return ranges


def _largest_ious(annotations: Iterable[dict[str, Any]]) -> dict[int, float]:
    """Largest IoU of each annotation's box with another one of its category in the image, without ignore regions."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        if not annotation["iscrowd"]:
            groups[annotation["image_id"], annotation["category_id"]].append(annotation)
    largest: dict[int, float] = {}
    for group in groups.values():
        ious = largest_iou([annotation["bbox"] for annotation in group])
        largest |= {annotation["id"]: float(iou) for annotation, iou in zip(group, ious, strict=True)}
    return largest
