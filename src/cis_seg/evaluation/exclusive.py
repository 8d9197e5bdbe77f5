"""Masks that share no pixel: each pixel to its best mask, as a drawing or a panoptic tool wants them.

Legend: n masks of one image, H W its size in pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from cis_seg.coco import rle
from cis_seg.structures import RLE, Instances


def exclusive_masks(masks: Sequence[Mapping[str, Any]]) -> list[RLE]:
    """n masks as run-length codes, each without the pixels of those before it.

    Masks that touch no earlier one stay as they are; the others are decoded one at a time, so no (n, H, W) stack exists.

    Args:
        masks: n run-length codes of one size, best first.
    Returns:
        n run-length codes; an empty one where earlier masks cover all of it.
    """
    exclusive: list[RLE] = []
    taken: Any = None
    for mask in masks:
        own = mask if taken is None or not rle.area(rle.merge([mask, taken], intersect=True)) else _without(mask, taken)
        taken = own if taken is None else rle.merge([taken, own])
        exclusive.append(RLE(size=list(own["size"]), counts=own["counts"]))
    return exclusive


def _without(mask: Any, taken: Any) -> Any:
    return rle.encode(rle.decode(mask) > rle.decode(taken))


def exclusive_instances(instances: Instances) -> Instances:
    """The detections of one image with masks that share no pixel: each pixel goes to the best scored mask that claims it.

    A detection whose mask loses all its pixels is left out; boxes stay those of the whole detections.
    """
    masks = exclusive_masks(instances.masks)
    kept = [place for place, mask in enumerate(masks) if rle.area(mask)]
    places = torch.tensor(kept, dtype=torch.int64, device=instances.boxes.device)
    boxes, scores, labels = (values[places] for values in (instances.boxes, instances.scores, instances.labels))
    return replace(instances, boxes=boxes, scores=scores, labels=labels, masks=tuple(masks[place] for place in kept))


def exclusive_results(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """COCO results entries with masks that share no pixel within an image, whatever their categories.

    As ``exclusive_instances``: the better score takes the pixel (of equal ones the earlier entry), an entry left without a
    pixel goes, boxes stay. Entries without a mask are left out.
    """
    by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in results:
        if entry.get("segmentation"):
            by_image[entry["image_id"]].append(entry)
    exclusive = []
    for group in by_image.values():
        ordered = sorted(group, key=lambda entry: -float(entry["score"]))
        for entry, mask in zip(ordered, exclusive_masks([entry["segmentation"] for entry in ordered]), strict=True):
            if rle.area(mask):
                exclusive.append({**entry, "segmentation": rle.to_json(mask)})
    return exclusive
