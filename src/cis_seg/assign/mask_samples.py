"""Which positive locations have their mask trained.

Legend: B batch, K locations, N mask samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.structures import Assignment, MaskSamples


@torch.no_grad()
def select_mask_samples(assignment: Assignment, quality: Tensor, *, per_image: int = 64, at_most: int = 500) -> MaskSamples:
    """The best positives of every person, an image's budget shared out evenly (AdelaiDet, masks).

    Each person that has positives gets ``max(per_image // number of such people, 1)`` of them, best quality first, ties to the first
    location. Deviation: never more than ``at_most`` an image, where the reference has no cap and runs out of memory in a crowd. One sample
    of each person goes first, then the second ones, each time by falling quality.

    Everything is computed at all K locations, so that the host waits for the device once: for the number of samples.

    Args:
        assignment: who learns what.
        quality: ``(B, K)`` best class score times centerness score, as in the reference.
        per_image: the budget of an image.
        at_most: the cap of an image.

    Returns:
        MaskSamples ordered by image, then person, then falling quality.
    """
    order, owner, rank = _ranked(assignment.gt_inds, quality)
    people = ((rank == 0) & (owner >= 0)).sum(dim=1)  # (B,)
    keep = (owner >= 0) & (rank < (per_image // people.clamp(min=1)).clamp(min=1)[:, None])
    wanted = keep.sum(dim=1)
    keep &= _place(rank.masked_fill(~keep, keep.shape[1]), quality.gather(1, order)) < at_most
    counts = keep.sum(dim=1)
    instances = (keep & (rank == 0)).sum(dim=1)  # a person's first sample is kept before its others
    numbers: list[list[int]] = torch.stack([counts, instances, wanted - counts]).tolist()  # the one transfer
    chosen = keep.flatten().to(torch.uint8).argsort(descending=True, stable=True)[: sum(numbers[0])]
    im_inds = chosen.div(keep.shape[1], rounding_mode="floor")
    return MaskSamples(
        im_inds, order.flatten()[chosen], owner.flatten()[chosen], tuple(numbers[0]), tuple(numbers[1]), dropped=sum(numbers[2])
    )


def _ranked(gt_inds: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All locations of each image by person (background in front), then falling quality.

    Returns:
        Which location, whose, its place 0, 1, .. within the person, each ``(B, K)``.
    """
    order = quality.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, gt_inds.gather(1, order).argsort(dim=1, stable=True))
    owner = gt_inds.gather(1, order)
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    starts = torch.ones_like(owner, dtype=torch.bool)
    starts[:, 1:] = owner[:, 1:] != owner[:, :-1]
    return order, owner, place - torch.where(starts, place, 0).cummax(dim=1).values


def _place(rank: Tensor, quality: Tensor) -> Tensor:
    """``(B, K)``: 0, 1, .. by rising rank, then falling quality."""
    order = quality.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, rank.gather(1, order).argsort(dim=1, stable=True))
    return order.argsort(dim=1)
