"""What is logged beside OverlapLoss: does it have work to do, and does it do it?

Legend: N mask samples, grouped by image; h w the mask grid; n_i and k_i an image's masks and drawn masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cis_seg.losses.overlap import ImagePairs
from cis_seg.ops.processes import sum_over_processes


@torch.no_grad()
def overlap_statistics(pairs: Sequence[ImagePairs], mask_scores: Tensor, boxes: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """Figures of one step, to be logged under ``train/``.

    Args:
        pairs: of each image, as the loss compared them.
        mask_scores: ``(N, h, w)`` in [0, 1].
        boxes: ``(N, 4)`` xyxy true boxes of the masks.
        counts: masks of each image, sum N.

    Returns:
        Scalars of the global batch: ``overlap_degree``, the mean of Eq. 1 over the pairs whose true boxes touch (0 without any);
        ``overlap_pairs``, the number of valid pairs; ``overlap_shared``, the share of the drawn masks' pixels (score above 0.5) that two or
        more claim.
    """
    degree, touching, valid, shared, claimed = (mask_scores.new_zeros(()) for _ in range(5))
    for p, scores, corners in zip(pairs, mask_scores.split(list(counts)), boxes.split(list(counts)), strict=True):
        near = p.valid & _touch(corners, corners[p.drawn])
        degree, touching, valid = degree + (p.degrees * near).sum(), touching + near.sum(), valid + p.valid.sum()
        claims = (scores[p.drawn] > 0.5).sum(dim=0)  # (h, w)
        shared, claimed = shared + (claims > 1).sum(), claimed + (claims > 0).sum()
    degree, touching, valid, shared, claimed = sum_over_processes(torch.stack([degree, touching, valid, shared, claimed]))
    return {
        "overlap_degree": degree / touching.clamp(min=1),
        "overlap_pairs": valid,
        "overlap_shared": shared / claimed.clamp(min=1),
    }


def _touch(a: Tensor, b: Tensor) -> Tensor:
    """``(n, 4)`` and ``(k, 4)`` -> ``(n, k)`` bool: the boxes share at least a point."""
    first = torch.maximum(a[:, None, :2], b[:, :2])
    last = torch.minimum(a[:, None, 2:], b[:, 2:])
    return (first <= last).all(dim=2)
