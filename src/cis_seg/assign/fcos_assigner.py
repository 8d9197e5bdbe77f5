"""FCOS's rule for which location learns which box.

Legend: B batch, K locations of all levels, G boxes and R ignore regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cis_seg.ops.boxes import box_areas, boxes_to_ltrb, centerness_targets, rasterised_centers
from cis_seg.structures import Assignment, Locations, Target


@torch.no_grad()
def assign(
    locations: Locations,
    targets: Sequence[Target],
    *,
    num_classes: int,
    padded_size: tuple[int, int],
    size_ranges: Sequence[float] = (64, 128, 256, 512),
    radius: float = 1.5,
) -> Assignment:
    """What every location of every image is to learn (FCOS with centre sampling; AdelaiDet, FCOS head).

    A location may learn a box if it lies strictly inside the box cut to ``radius`` strides around the box's centre (centroid of the filled
    box), and if the largest of its distances to the box's sides is in the range of its level, both ends included. Of several boxes it
    learns the smallest, of equally small ones the first.

    Where a target has ignore regions, its background locations inside one of them and outside every person's box are marked as ignored:
    whoever may stand there is not annotated. The reference knows no such regions; targets without them give what it gives.

    Deviation from the reference, which drops every positive of an image whose first box has its centroid at x = 0: a bug, left out.

    Args:
        locations: the K grid points of all levels.
        targets: the B images' boxes and labels.
        num_classes: the label that background gets.
        padded_size: (height, width) of the network's input.
        size_ranges: pixels at which one level's range ends and the next one's begins; one fewer than levels.
        radius: half the side of the centre region, in strides.

    Returns:
        Assignment with ``(B, K)`` fields.
    """
    rows = []
    for target in targets:
        allowed = allowed_pairs(locations, target.boxes, padded_size=padded_size, size_ranges=size_ranges, radius=radius)
        rows.append(_smallest_box(locations, allowed, target, num_classes))
    labels, gt_inds, ltrb = (torch.stack(column) for column in zip(*rows, strict=True))
    return Assignment(labels, gt_inds, ltrb, centerness_targets(ltrb), ignored_locations(locations.xy, targets))


def ignored_locations(locations: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """``(B, K)`` True for the locations ``(K, 2)`` in an ignore region and in nobody's box; None where no image has a region."""
    if all(target.ignore_boxes is None for target in targets):
        return None
    nowhere = torch.zeros(len(locations), dtype=torch.bool, device=locations.device)
    rows = (
        nowhere if t.ignore_boxes is None else _inside_any(locations, t.ignore_boxes) & ~_inside_any(locations, t.boxes) for t in targets
    )
    return torch.stack(list(rows))


def _inside_any(locations: Tensor, boxes: Tensor) -> Tensor:
    """``(K,)`` whether the location lies strictly inside one of the boxes ``(R, 4)``."""
    low, high = boxes[None, :, :2] < locations[:, None], locations[:, None] < boxes[None, :, 2:]  # (K, R, 2)
    return (low & high).all(dim=-1).any(dim=-1)


def allowed_pairs(
    locations: Locations,
    boxes: Tensor,
    *,
    padded_size: tuple[int, int],
    size_ranges: Sequence[float],
    radius: float = 1.5,
) -> Tensor:
    """``(K, G)`` True where the location may learn the box, see ``assign``; one axis at a time, so that no ``(K, G, 4)`` tensor exists."""
    lower = boxes.new_tensor((-1.0, *size_ranges))[locations.level_inds]  # (K,)
    upper = boxes.new_tensor((*size_ranges, torch.inf))[locations.level_inds]
    reach = locations.strides * radius
    centers = rasterised_centers(boxes, padded_size)  # (G, 2), NaN: near no location
    farthest = boxes.new_full((len(locations.xy), len(boxes)), -torch.inf)
    inside = torch.ones_like(farthest, dtype=torch.bool)
    for axis in (0, 1):
        at = locations.xy[:, axis, None]  # (K, 1)
        low, high, center = boxes[:, axis], boxes[:, axis + 2], centers[:, axis]
        inside &= (at > torch.maximum(low, center - reach[:, None])) & (at < torch.minimum(high, center + reach[:, None]))
        farthest = torch.maximum(farthest, torch.maximum(at - low, high - at))
    return inside & (farthest >= lower[:, None]) & (farthest <= upper[:, None])


def _smallest_box(locations: Locations, allowed: Tensor, target: Target, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels ``(K,)``, ground truth indices ``(K,)`` and ltrb in strides ``(K, 4)`` of one image."""
    labels = torch.full((len(allowed),), num_classes, dtype=torch.int64, device=allowed.device)
    if len(target.boxes) == 0:
        return labels, torch.full_like(labels, -1), target.boxes.new_zeros((len(allowed), 4))
    areas = box_areas(target.boxes).expand(allowed.shape).masked_fill(~allowed, torch.inf)
    smallest, gt_inds = areas.min(dim=1)  # of equal areas the first
    positive = smallest < torch.inf
    ltrb = boxes_to_ltrb(locations.xy, target.boxes[gt_inds]) / locations.strides[:, None]
    return (
        torch.where(positive, target.labels[gt_inds], labels),
        torch.where(positive, gt_inds, -1),
        torch.where(positive[:, None], ltrb, 0.0),
    )
