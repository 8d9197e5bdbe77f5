"""Which positive locations have their mask trained.

Legend: B batch, K locations, N mask samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.structures import Assignment, MaskSamples


@torch.no_grad()
def select_mask_samples(assignment: Assignment, quality: Tensor, *, per_image: int = 64, at_most: int = 500) -> MaskSamples:
    """Select the positives whose masks are trained: the best ones of every instance (AdelaiDet's ``TOPK_PROPOSALS_PER_IM``).

    An image's budget is shared evenly: each instance that has positives gets ``max(per_image // number of such instances, 1)`` of them,
    best quality first, ties to the first location.

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
