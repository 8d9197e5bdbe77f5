"""FCOS's assignment of ground truths to locations.

Legend: B batch, K locations of all levels, G boxes and R ignore regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area

from cis_seg.ops.boxes import boxes_to_ltrb, centerness_targets, rasterised_centers
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
    """Assign to every location of every image the ground truth that it learns, or background (FCOS, section 3.1; AdelaiDet).

    A location may learn a box if it lies in the box's centre region and the box fits the location's level (``allowed_pairs``). If several
    boxes qualify, the location learns the smallest one.

    Background in an ignore region and outside every ground-truth box is marked as ignored, because instances there are not annotated.
    The reference has no ignore regions; targets without them give its result.

    Deviation from the reference: it drops all positives of an image if the centroid of the first box is at x = 0, which is a bug.

    Args:
        locations: the K grid points of all levels.
        targets: boxes and labels of the B images.
        num_classes: the label of background.
        padded_size: (height, width) of the network's input.
        size_ranges: boundaries between the levels' size ranges in pixels; one fewer than levels.
        radius: half the side of the centre region in strides.

    Returns:
        Assignment with ``(B, K)`` fields.
    """
    rows = []
    for target in targets:
        allowed = allowed_pairs(locations, target.boxes, padded_size=padded_size, size_ranges=size_ranges, radius=radius)
        rows.append(_smallest_box(locations, allowed, target, num_classes))
    labels, gt_inds, ltrb = (torch.stack(column) for column in zip(*rows, strict=True))
    return Assignment(labels, gt_inds, ltrb, centerness_targets(ltrb), ignored_locations(locations.xy, targets))


def ignored_locations(xy: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """Whether each of the points ``(K, 2)`` lies in an ignore region and in no ground-truth box, ``(B, K)``; None without regions."""
    if all(target.ignore_boxes is None for target in targets):
        return None
    nowhere = torch.zeros(len(xy), dtype=torch.bool, device=xy.device)
    rows = (nowhere if t.ignore_boxes is None else _inside_any(xy, t.ignore_boxes) & ~_inside_any(xy, t.boxes) for t in targets)
    return torch.stack(list(rows))


def _inside_any(xy: Tensor, boxes: Tensor) -> Tensor:
    """Whether each point ``(K, 2)`` lies strictly inside one of the boxes ``(R, 4)``, ``(K,)``."""
    low, high = boxes[None, :, :2] < xy[:, None], xy[:, None] < boxes[None, :, 2:]  # (K, R, 2)
    return (low & high).all(dim=-1).any(dim=-1)


def allowed_pairs(
    locations: Locations,
    boxes: Tensor,
    *,
    padded_size: tuple[int, int],
    size_ranges: Sequence[float],
    radius: float = 1.5,
) -> Tensor:
    """Return which location may learn which box, ``(K, G)`` bool; the arguments are those of ``assign``."""
    # Size ranges: level i learns boxes with size_ranges[i - 1] <= max(l, t, r, b) <= size_ranges[i] (FCOS, section 3.2). As in AdelaiDet,
    # both ends are included, so a box exactly at a boundary is learned on both levels.
    lower = boxes.new_tensor((-1.0, *size_ranges))[locations.level_inds]  # (K,)
    upper = boxes.new_tensor((*size_ranges, torch.inf))[locations.level_inds]
    # Centre sampling: a location is positive only within `radius` strides of the box's centre, on either axis, and strictly inside the
    # box (AdelaiDet's POS_RADIUS; an improvement of FCOS after its first version). The centre is the centroid of the filled box.
    reach = locations.strides * radius
    centers = rasterised_centers(boxes, padded_size)  # (G, 2), NaN is near no location
    farthest = boxes.new_full((len(locations.xy), len(boxes)), -torch.inf)
    inside = torch.ones_like(farthest, dtype=torch.bool)
    for axis in (0, 1):  # one axis at a time, so that no (K, G, 4) tensor is created
        at = locations.xy[:, axis, None]  # (K, 1)
        low, high, center = boxes[:, axis], boxes[:, axis + 2], centers[:, axis]
        inside &= (at > torch.maximum(low, center - reach[:, None])) & (at < torch.minimum(high, center + reach[:, None]))
        farthest = torch.maximum(farthest, torch.maximum(at - low, high - at))
    return inside & (farthest >= lower[:, None]) & (farthest <= upper[:, None])


def _smallest_box(locations: Locations, allowed: Tensor, target: Target, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return labels ``(K,)``, ground-truth indices ``(K,)`` and ltrb in strides ``(K, 4)`` of one image."""
    labels = torch.full((len(allowed),), num_classes, dtype=torch.int64, device=allowed.device)
    if len(target.boxes) == 0:
        return labels, torch.full_like(labels, -1), target.boxes.new_zeros((len(allowed), 4))
    # Ambiguity: if a location may learn several boxes, it learns the smallest (FCOS, section 3.1), and the first of equally small ones.
    areas = box_area(target.boxes).expand(allowed.shape).masked_fill(~allowed, torch.inf)
    smallest, gt_inds = areas.min(dim=1)
    positive = smallest < torch.inf
    # Regression targets are distances in units of the stride, so that all levels share one head.
    ltrb = boxes_to_ltrb(locations.xy, target.boxes[gt_inds]) / locations.strides[:, None]
    return (
        torch.where(positive, target.labels[gt_inds], labels),
        torch.where(positive, gt_inds, -1),
        torch.where(positive[:, None], ltrb, 0.0),
    )
