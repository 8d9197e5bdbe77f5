"""Counts, sizes and crowding of a data set.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cis_seg.coco import rle
from cis_seg.coco.checks import is_score
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins, mask_to_box
from cis_seg.inspection.contents import Contents
from cis_seg.inspection.oddities import box_distance, pair_ious

SIZE_LIMITS = (32**2, 96**2)  # COCO's limits between small, medium and large, in square pixels
OVERLAPPING = 0.05  # mask IoU above which two masks overlap; 73 of the 11,927 pairs of CIS do
CLOSE, FAR = 5, 20  # px between the edges of a box and of its mask's tight box: agree, disagree
_MOST_IDS = 50  # missing ids that are listed

Statistics = dict[str, Any]


def statistics(contents: Contents) -> Statistics:
    """Compute all statistics as plain numbers for JSON; ignore regions are only counted."""
    people = contents.people()
    numbers = sorted(annotation["id"] for annotation in contents.annotations)
    per_image = Counter(annotation["image_id"] for annotation in people)
    found: Statistics = {
        "images": len(contents.images),
        "annotations": len(contents.annotations),
        "crowd_regions": len(contents.annotations) - len(people),
        "categories": dict(Counter(contents.categories[annotation["category_id"]] for annotation in people).most_common()),
        "top_level_keys": contents.keys,
        "instances_per_image": _spread([per_image[image_id] for image_id in contents.images]),
        "image_width": _spread([image["width"] for image in contents.images.values()]),
        "image_height": _spread([image["height"] for image in contents.images.values()]),
        "image_ids": _ends(sorted(contents.images)),
        "annotation_ids": _ends(numbers),
        "missing_annotation_ids": _gaps(numbers),
        "sizes": {"published": _sizes([annotation["area"] for annotation in people if annotation["area"] is not None])},
        "crowding": {name: count for name in CROWD_BINS if (count := Counter(crowd_bins(people).values())[name])},
    }
    found["sizes"]["box"] = _sizes([annotation["bbox"][2] * annotation["bbox"][3] for annotation in people])
    masked = [annotation for annotation in people if annotation["segmentation"] is not None]
    return found | {"boxes_alone": len(people) - len(masked)} | _mask_statistics(masked)


def _mask_statistics(masked: Sequence[dict[str, Any]]) -> Statistics:
    """The statistics of masks."""
    if not masked:
        return {"masks": 0}
    areas = [rle.area(annotation["segmentation"]) for annotation in masked]
    distances = np.array([box_distance(annotation) for annotation in masked])
    ious = pair_ious(masked)
    return {
        "masks": len(masked),
        "scored_masks": len(scores := [annotation["score"] for annotation in masked if is_score(annotation["score"])]),
        "mask_scores": _spread(scores),
        "mask_area": _spread(areas),
        "mask_sizes": _sizes(areas),
        "mask_to_box": mask_to_box(masked),
        "area_is_box_area": sum(a["area"] == a["bbox"][2] * a["bbox"][3] for a in masked),
        "area_is_mask_area": sum(a["area"] == area for a, area in zip(masked, areas, strict=True)),
        "parts_per_mask": _spread([len(annotation["outline"]) for annotation in masked if annotation["outline"]]),
        f"boxes_within_{CLOSE}_px_of_mask": int((distances <= CLOSE).sum()),
        f"boxes_beyond_{FAR}_px_of_mask": int((distances > FAR).sum()),
        "mask_pairs": len(ious),
        "mask_pairs_overlapping": sum(iou > OVERLAPPING for _, _, iou in ious),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)} if values else None


def _sizes(areas: Sequence[float]) -> dict[str, int]:
    """Number of small, medium and large areas by COCO's limits."""
    places = Counter(np.searchsorted(SIZE_LIMITS, areas, side="right").tolist())
    return {name: places[place] for place, name in enumerate(("small", "medium", "large"))}


def _ends(numbers: Sequence[int]) -> list[int]:
    return [numbers[0], numbers[-1]] if numbers else []


def _gaps(numbers: Sequence[int]) -> list[int] | None:
    """The ids missing between the first and the last; None if there are many, as in COCO, whose ids are not consecutive."""
    if not numbers or numbers[-1] - numbers[0] + 1 - len(numbers) > _MOST_IDS:
        return None
    return sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
