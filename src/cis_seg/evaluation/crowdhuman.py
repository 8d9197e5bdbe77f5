"""CrowdHuman's metrics of boxes: AP, MR^-2 and JI at IoU 0.5.

The definitions are those of the benchmark (Shao et al., CrowdHuman, arXiv:1805.00123, section 4.1) with the details of CrowdDet's
evaluation (Chu et al., arXiv:2003.09163, section 5), whose published numbers they reproduce.

Legend: D detections, G people, R ignore regions of one image; boxes are xyxy in pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from cis_seg.coco.ground_truth import CrowdImage, CrowdTruth
from cis_seg.coco.results import by_image

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
MATCHED = 0.5  # IoU with a person, or share of a box inside an ignore region, above which a box is matched
MOST_DETECTIONS = 500  # per image
#: false positives per image at which MR^-2 reads the miss rate: 10^-2 to 10^0 in nine logarithmic steps, rounded as in Caltech's code
FALSE_PER_IMAGE = (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0)
SCORE_THRESHOLDS = 0.1 * np.arange(10)  # of which JI takes the best
_EPS = 1e-6  # CrowdDet adds it to the denominator of JI


@dataclass(frozen=True)
class ScoredImage:
    """The detections of one image, best first, compared with its ground truth."""

    scores: Floats  # (D,) falling; equal ones in the order of the results
    iou: Floats  # (D, G)
    found_in_region: NDArray[np.bool_]  # (D,) whether more than half of a detection lies in one ignore region
    person_in_region: NDArray[np.bool_]  # (G,) the same of a person


def crowdhuman_metrics(truth: CrowdTruth, results: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return ``crowdhuman/AP/<kind>``, ``crowdhuman/MR/<kind>`` and ``crowdhuman/JI/<kind>`` in percent; None without people.

    Args:
        truth: people and ignore regions; its kind labels the metrics.
        results: entries with ``image_id`` of ``truth.images``, ``bbox`` [x, y, width, height] and ``score``, in any order. The
            ``MOST_DETECTIONS`` best of an image count.
    """
    scored = compared(truth, results)
    names = [f"crowdhuman/{name}/{truth.kind}" for name in ("AP", "MR", "JI")]
    if not any(image.iou.shape[1] for image in scored):
        return dict.fromkeys(names)
    hits, num_people = _ranked_hits(scored), sum(image.iou.shape[1] for image in scored)
    values = average_precision(hits, num_people), miss_rate(hits, num_people, len(scored)), max(jaccard_indices(scored))
    return {name: 100 * value for name, value in zip(names, values, strict=True)}


def compared(truth: CrowdTruth, results: Iterable[Mapping[str, Any]]) -> list[ScoredImage]:
    """Return the images of ``truth`` with their detections. Boxes are clipped to the image (``_clipped``)."""
    detections = by_image(results)
    crowded = sum(len(found) > MOST_DETECTIONS for found in detections.values())
    if crowded:
        log.warning("CrowdHuman's metrics count the %d best detections of an image; %d images have more", MOST_DETECTIONS, crowded)
    return [_compared(image, detections.get(image_id, [])) for image_id, image in truth.images.items()]


def _compared(image: CrowdImage, found: Sequence[Mapping[str, Any]]) -> ScoredImage:
    scores = np.array([entry["score"] for entry in found], dtype=np.float64)
    order = np.argsort(-scores, kind="stable")[:MOST_DETECTIONS]
    xywh = np.array([found[place]["bbox"] for place in order], dtype=np.float64).reshape(-1, 4)
    boxes = _clipped(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), image.size)
    people, regions = _clipped(image.people, image.size), _clipped(image.ignored, image.size)
    shared, areas = _intersections(boxes, people), _areas(boxes)
    iou = _ratio(shared, areas[:, None] + _areas(people) - shared)
    return ScoredImage(scores[order], iou, _mostly_inside(boxes, regions), _mostly_inside(people, regions))


def _clipped(boxes: ArrayLike, size: tuple[int, int]) -> Floats:
    """Clip boxes (N, 4) as CrowdDet does: the upper left corner to the pixels 0 to side - 1, the lower right one to 0 to side.

    A box beyond the right or lower border therefore becomes a strip of one pixel.
    """
    height, width = size
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.clip(corners, 0, [width - 1, height - 1, width, height])


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _intersections(first: Floats, second: Floats) -> Floats:
    """Area that boxes (N, 4) and (K, 4) share -> (N, K)."""
    width, height = (
        np.minimum(first[:, None, axis + 2], second[None, :, axis + 2]) - np.maximum(first[:, None, axis], second[None, :, axis])
        for axis in (0, 1)
    )
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """``part`` / ``whole``, 0 where ``whole`` is: boxes without area match nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mostly_inside(boxes: Floats, regions: Floats) -> NDArray[np.bool_]:
    """Whether more than half of the area of each box (N, 4) lies in one of the regions (R, 4) -> (N,)."""
    shares = _ratio(_intersections(boxes, regions), np.broadcast_to(_areas(boxes)[:, None], (len(boxes), len(regions))))
    return np.asarray((shares > MATCHED).any(axis=1))


def _ranked_hits(images: Sequence[ScoredImage]) -> NDArray[np.bool_]:
    """Whether each detection of all images finds a person, best score first; ignored detections are left out.

    Equal scores count in the order of the images.
    """
    hits = [matched_people(image.iou) for image in images]
    kept = [hit | ~image.found_in_region for hit, image in zip(hits, images, strict=True)]
    scores = np.concatenate([image.scores[keep] for image, keep in zip(images, kept, strict=True)])
    flat = np.concatenate([hit[keep] for hit, keep in zip(hits, kept, strict=True)])
    return np.asarray(flat[np.argsort(-scores, kind="stable")])


def matched_people(iou: Floats) -> NDArray[np.bool_]:
    """Whether each detection finds a person, (D, G) -> (D,); detections are sorted by falling score.

    Each detection in turn takes the person of the highest IoU above ``MATCHED`` among those whom no better detection took (the first of
    equal ones). Ignore regions come after the people: a detection that finds a person is never ignored.
    """
    detections, people = np.nonzero(iou > MATCHED)
    order = np.lexsort((people, -iou[detections, people], detections))
    hit, taken = np.zeros(iou.shape[0], dtype=np.bool_), set[int]()
    for detection, person in zip(detections[order].tolist(), people[order].tolist(), strict=True):
        if person not in taken and not hit[detection]:
            hit[detection] = True
            taken.add(person)
    return hit


def average_precision(hits: NDArray[np.bool_], num_people: int) -> float:
    """Return the area under precision over recall by the trapezoidal rule, 0 to 1.

    The curve starts at the first detection, not at recall 0, and is not made monotone: other APs are slightly higher.

    Args:
        hits: (D,) whether each detection finds a person, best first.
        num_people: at least 1.
    """
    found = np.cumsum(hits)
    return float(np.trapezoid(found / np.arange(1, len(hits) + 1), found / num_people))


def miss_rate(hits: NDArray[np.bool_], num_people: int, num_images: int) -> float:
    """Return the log-average miss rate MR^-2, 0 to 1 (lower is better); 1 without detections.

    At each of ``FALSE_PER_IMAGE`` the miss rate is that of the first detection with as many false positives per image, or of the last
    detection if there are fewer. The result is the geometric mean of the nine, so 0 if one of them is 0.
    """
    if not len(hits):
        return 1.0
    missed = 1 - np.cumsum(hits) / num_people
    places = np.searchsorted(np.cumsum(~hits) / num_images, FALSE_PER_IMAGE, side="left")
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(missed[np.minimum(places, len(hits) - 1)]).mean()))


def jaccard_indices(images: Sequence[ScoredImage]) -> list[float]:
    """Return the mean Jaccard index of the images at each of ``SCORE_THRESHOLDS``, 0 to 1; the benchmark reports the largest.

    The index of an image is k / (m + n - k): k matches of the n detections above the threshold with the m people, without the unmatched
    ones that lie in ignore regions. Images with m = n = 0 do not count.
    """
    sums, counts = np.zeros(len(SCORE_THRESHOLDS)), np.zeros(len(SCORE_THRESHOLDS))
    for image in images:
        kept = np.searchsorted(-image.scores, -SCORE_THRESHOLDS, side="left")  # scores above each threshold
        indices = {int(number): _jaccard_index(image, int(number)) for number in np.unique(kept)}
        for place, number in enumerate(kept.tolist()):
            index = indices[number]
            if index is not None:
                sums[place] += index
                counts[place] += 1
    return [float(value) for value in sums / np.maximum(counts, 1)]


def _jaccard_index(image: ScoredImage, number: int) -> float | None:
    """The index of the best ``number`` detections of an image, None if nothing counts."""
    found, people = maximum_matching(image.iou[:number])
    matches = len(found)
    lone_found, lone_people = image.found_in_region[:number].copy(), image.person_in_region.copy()
    lone_found[found], lone_people[people] = False, False
    counted = len(lone_people) - int(lone_people.sum()), number - int(lone_found.sum())
    return matches / (sum(counted) - matches + _EPS) if any(counted) else None


def maximum_matching(iou: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of detections and people (D, G) above ``MATCHED`` with the largest sum of IoU, each used once at most.

    This is not the matching with most pairs: two pairs of IoU 1 outweigh three of 0.51.
    """
    weights = np.where(iou > MATCHED, iou, 0.0)
    rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
    within = weights[np.ix_(rows, columns)]
    chosen = linear_sum_assignment(within, maximize=True)
    real = within[chosen] > 0
    return rows[chosen[0][real]], columns[chosen[1][real]]
