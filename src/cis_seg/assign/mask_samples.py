"""Which positive locations have their mask trained.

Legend: B batch, K locations, M positives of the batch, N mask samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.structures import Assignment, MaskSamples


@torch.no_grad()
def select_mask_samples(assignment: Assignment, quality: Tensor, *, per_image: int = 64) -> MaskSamples:
    """The best positives of every person, an image's budget shared out evenly (REFERENCE.md, masks).

    Each person that has positives gets ``max(per_image // number of such people, 1)`` of them, best quality first, ties to the first
    location. As in the reference there is no cap beyond that: 400 people are 400 samples.

    Args:
        assignment: who learns what.
        quality: ``(B, K)`` best class score times centerness score, as in the reference.
        per_image: the budget of an image.

    Returns:
        MaskSamples ordered by image, then person, then falling quality.
    """
    im_inds, loc_inds = (assignment.gt_inds >= 0).nonzero(as_tuple=True)  # (M,)
    gt_inds = assignment.gt_inds[im_inds, loc_inds]
    order = torch.argsort(quality[im_inds, loc_inds], descending=True, stable=True)
    order = order[torch.argsort(gt_inds[order], stable=True)]
    order = order[torch.argsort(im_inds[order], stable=True)]
    im_inds, loc_inds, gt_inds = im_inds[order], loc_inds[order], gt_inds[order]

    first = torch.ones_like(im_inds, dtype=torch.bool)  # a person's best positive
    first[1:] = (im_inds[1:] != im_inds[:-1]) | (gt_inds[1:] != gt_inds[:-1])
    place = torch.arange(len(order), device=order.device)
    rank = place - torch.where(first, place, 0).cummax(dim=0).values  # 0, 1, .. within the person
    people = torch.zeros(quality.shape[0], dtype=torch.int64, device=order.device).index_add(0, im_inds, first.long())
    keep = rank < (per_image // people.clamp(min=1)).clamp(min=1)[im_inds]
    im_inds = im_inds[keep]
    counts = torch.bincount(im_inds, minlength=quality.shape[0])
    numbers: list[list[int]] = torch.stack([counts, people]).tolist()  # one transfer
    return MaskSamples(im_inds, loc_inds[keep], gt_inds[keep], tuple(numbers[0]), tuple(numbers[1]))
