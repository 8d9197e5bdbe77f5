"""FCOS's assignment of ground truths to locations, and the choice of the positive locations that have their mask trained.

Legend: B batch, K locations of all levels, G boxes and R ignore regions of an image, N mask samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area

from cis_seg.ops.boxes import boxes_to_ltrb, centerness_targets, rasterised_centers
from cis_seg.structures import Assignment, Locations, MaskSamples, Target


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


@torch.no_grad()
def select_mask_samples(assignment: Assignment, quality: Tensor, *, per_image: int = 64, at_most: int = 500) -> MaskSamples:
    """Select the positives whose masks are trained: the best ones of every instance (AdelaiDet's ``TOPK_PROPOSALS_PER_IM``).

    An image's budget is shared evenly: each instance that has positives gets ``max(per_image // number of such instances, 1)`` of them,
    best quality first, ties to the first location. OverlapLoss compares all of them with its own choice of one mask per instance
    (``M_s``, ``losses.overlap.image_pairs``).

    Deviation from the reference: at most ``at_most`` per image. The reference has no hard cap and runs out of memory in a crowd. The cap
    keeps the best sample of each instance first, then the second ones and so on, each time by descending quality.

    Everything is computed at all K locations, so that the device is synchronised only once, for the number of samples.

    Args:
        assignment: the training target of every location.
        quality: ``(B, K)`` best class score times centerness score, as in the reference.
        per_image: the budget of an image.
        at_most: the hard cap of an image.

    Returns:
        MaskSamples ordered by image, then instance, then descending quality.
    """
    order, owner, rank = _ranked(assignment.gt_inds, quality)
    instances = ((rank == 0) & (owner >= 0)).sum(dim=1)  # (B,)
    # The budget per instance; at least one sample each, even if there are more instances than the budget.
    keep = (owner >= 0) & (rank < (per_image // instances.clamp(min=1)).clamp(min=1)[:, None])
    wanted = keep.sum(dim=1)
    keep &= _position(rank.masked_fill(~keep, keep.shape[1]), quality.gather(1, order)) < at_most
    counts = keep.sum(dim=1)
    kept_instances = (keep & (rank == 0)).sum(dim=1)  # the first sample of an instance is kept before its others
    numbers: list[list[int]] = torch.stack([counts, kept_instances, wanted - counts]).tolist()  # the only synchronisation
    chosen = keep.flatten().to(torch.uint8).argsort(descending=True, stable=True)[: sum(numbers[0])]
    im_inds = chosen.div(keep.shape[1], rounding_mode="floor")
    return MaskSamples(
        im_inds, order.flatten()[chosen], owner.flatten()[chosen], tuple(numbers[0]), tuple(numbers[1]), dropped=sum(numbers[2])
    )


def _sorted_by(group: Tensor, quality: Tensor) -> Tensor:
    """Return the order ``(B, K)`` by ascending ``group``, then descending ``quality``."""
    order = quality.argsort(dim=1, descending=True, stable=True)
    return order.gather(1, group.gather(1, order).argsort(dim=1, stable=True))


def _ranked(gt_inds: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort the locations of each image by instance (background first), then descending quality.

    Returns:
        The location, its instance and its rank 0, 1, ... within the instance, each ``(B, K)``.
    """
    order = _sorted_by(gt_inds, quality)
    owner = gt_inds.gather(1, order)
    index = torch.arange(order.shape[1], device=order.device).expand_as(order)
    starts = torch.ones_like(owner, dtype=torch.bool)
    starts[:, 1:] = owner[:, 1:] != owner[:, :-1]
    return order, owner, index - torch.where(starts, index, 0).cummax(dim=1).values


def _position(rank: Tensor, quality: Tensor) -> Tensor:
    """Return the position 0, 1, ... of every entry by ascending rank, then descending quality, ``(B, K)``."""
    return _sorted_by(rank, quality).argsort(dim=1)
