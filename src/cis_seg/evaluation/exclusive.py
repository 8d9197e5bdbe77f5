"""Masks without shared pixels, for panoptic tools: each pixel goes to its best mask.

Legend: n masks of one image, H W its size in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from cis_seg.coco import rle
from cis_seg.coco.results import by_image
from cis_seg.structures import RLE, Instances


def exclusive_masks(masks: Sequence[Mapping[str, Any]]) -> list[RLE]:
    """Remove from each mask the pixels of the masks before it.

    Masks that overlap no earlier one stay unchanged; the others are decoded one at a time, so that no (n, H, W) stack is created.

    Args:
        masks: n run-length codes of one size, best first.

    Returns:
        n run-length codes; a mask that earlier ones cover completely is empty.
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
    """Return the detections of one image with exclusive masks: each pixel goes to the mask with the best score.

    A detection without remaining pixels is dropped. Boxes do not change.
    """
    masks = exclusive_masks(instances.masks)
    kept = [index for index, mask in enumerate(masks) if rle.area(mask)]
    indices = torch.tensor(kept, dtype=torch.int64, device=instances.boxes.device)
    boxes, scores, labels = (values[indices] for values in (instances.boxes, instances.scores, instances.labels))
    return replace(instances, boxes=boxes, scores=scores, labels=labels, masks=tuple(masks[index] for index in kept))


def exclusive_results(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return COCO results entries with exclusive masks within each image, across categories.

    As in ``exclusive_instances``, the better score gets the pixel (the earlier entry among equal ones), entries without remaining pixels
    are dropped and boxes do not change. Entries without a mask are dropped.
    """
    exclusive = []
    for group in by_image(entry for entry in results if entry.get("segmentation")).values():
        ordered = sorted(group, key=lambda entry: -float(entry["score"]))
        for entry, mask in zip(ordered, exclusive_masks([entry["segmentation"] for entry in ordered]), strict=True):
            if rle.area(mask):
                exclusive.append({**entry, "segmentation": rle.to_json(mask)})
    return exclusive
