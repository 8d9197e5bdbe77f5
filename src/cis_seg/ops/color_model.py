"""A colour model of each instance: which colours its mask has more often than the surroundings of its box.

Legend: N instances, B batch, h w mask grid, C colour bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.ops.precision import at_least_float32

#: side of a bin in CIE Lab, about three times a just noticeable difference; L has 13 of them, a and b 32 each
BIN = 8.0
BINS = (13, 32, 32)
#: added to the shares of a colour, so that a colour that hardly occurs is evidence for neither
RARE = 1e-3


@torch.no_grad()
def color_evidence(mask_scores: Tensor, colors_lab: Tensor, box_masks: Tensor, surroundings: Tensor, im_inds: Tensor) -> Tensor:
    """Return ``log((f + 0.001) / (s + 0.001))`` for every pixel: its colour's share f in the mask and s in the surroundings of the box.

    Ground that a mask wrongly covers, as between the legs of a person, usually has a colour that lies outside the box too, where no
    pixel belongs to the instance.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1]; the pixels of the box count by their score.
        colors_lab: ``(B, 3, h, w)`` CIE Lab.
        box_masks: ``(N, h, w)`` filled boxes.
        surroundings: ``(N, h, w)`` filled boxes of the neighbourhood; their pixels outside ``box_masks`` count.
        im_inds: ``(N,)`` image of each mask.

    Returns:
        ``(N, h, w)`` float32, positive where the colour supports the instance.
    """
    scores = at_least_float32(mask_scores)
    bins = _bins(colors_lab)[im_inds].flatten(1)  # (N, h * w)
    inside = _shares(bins, scores * box_masks)
    outside = _shares(bins, (surroundings.bool() & ~box_masks.bool()).to(scores.dtype))
    return ((inside + RARE) / (outside + RARE)).log().gather(1, bins).view_as(scores)


def _bins(colors_lab: Tensor) -> Tensor:
    """Return the index of each pixel's colour among C, ``(B, h, w)``."""
    lightness, a, b = (colors_lab / BIN).unbind(dim=1)
    parts = (lightness, a + BINS[1] / 2, b + BINS[2] / 2)
    first, second, third = (part.long().clamp(0, count - 1) for part, count in zip(parts, BINS, strict=True))
    return (first * BINS[1] + second) * BINS[2] + third


def _shares(bins: Tensor, weights: Tensor) -> Tensor:
    """Return the share of each colour among the weighted pixels, ``(N, C)``."""
    counts = weights.new_zeros(len(bins), BINS[0] * BINS[1] * BINS[2]).scatter_add_(1, bins, weights.flatten(1))
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
