"""BoxInst's pairwise loss (its Eq. 5 to 8): neighbours of like colour get the same label.

Legend: B batch, N mask samples, E neighbours, h w mask grid, M pixels in box masks; p a pixel and q its neighbour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.neighbours import gather_neighbours, neighbour_offsets
from cis_seg.ops.precision import at_least_float32


def pairwise_loss(
    mask_logits: Tensor,
    box_masks: Tensor,
    color_similarity: Tensor,
    im_inds: Tensor,
    *,
    size: int = 3,
    dilation: int = 2,
    color_thresh: float = 0.3,
) -> Tensor:
    """Weighted mean of ``-log P(p and q have the same label)`` over all edges of all samples, before warm-up; 0 for no samples.

    An edge weighs 1 where its colour similarity reaches the threshold and p is in the box mask. With a, b the logits of p and q and s the
    sigmoid, ``P(same) = s(a) s(b) + s(-a) s(-b)``, so that ``-log P(same) = softplus(a) + softplus(b) - softplus(a + b)``, finite always.
    A neighbour outside the map costs 0.

    Only the edges that weigh something are computed, from a list of their two ends: work and memory grow with their number, not with
    N * E * h * w (boxes of a tenth of the image with a quarter of their edges alike leave 3 % of it).

    Args:
        mask_logits: ``(N, h, w)``, any float type.
        box_masks: ``(N, h, w)`` 0 or 1, any type.
        color_similarity: ``(B, E, h, w)`` from ``cis_seg.ops.color``, one per image.
        im_inds: ``(N,)`` image of each sample.
        size: side of the neighbourhood that ``color_similarity`` was computed with.
        dilation: distance of its cells.
        color_thresh: smallest similarity that counts.

    Returns:
        Scalar, float32: the sum over the samples of the batch divided by the sum of the weights (at least 1).

    Raises:
        ValueError: shapes that do not belong together.
    """
    offsets = neighbour_offsets(size, dilation)
    _check_shapes(mask_logits, box_masks, color_similarity, len(offsets))
    h, w = mask_logits.shape[1:]
    n, pixel = box_masks.bool().flatten(1).nonzero(as_tuple=True)  # (M,)
    alike = (color_similarity >= color_thresh).flatten(2).transpose(1, 2)  # (B, h * w, E)
    weight = alike.sum(dim=2)[im_inds[n], pixel].sum()
    in_map = gather_neighbours(alike.new_ones((1, 1, h, w)), size, dilation)  # (1, E, 1, h, w), False where the neighbour is outside
    edges = alike & in_map.flatten(2).transpose(1, 2)
    m, e = edges[im_inds[n], pixel].nonzero(as_tuple=True)  # the edges that cost something, far fewer than M * E
    steps = torch.tensor([dy * w + dx for dy, dx in offsets], device=m.device)
    p = (n * (h * w) + pixel)[m]
    logits = at_least_float32(mask_logits).flatten()
    a, b = logits[p], logits[p + steps[e]]
    return (F.softplus(a) + F.softplus(b) - F.softplus(a + b)).sum() / weight.clamp(min=1)


def _check_shapes(mask_logits: Tensor, box_masks: Tensor, color_similarity: Tensor, num_edges: int) -> None:
    n, h, w = mask_logits.shape if mask_logits.dim() == 3 else (-1, -1, -1)
    if n < 0 or box_masks.shape != mask_logits.shape or color_similarity.shape[1:] != (num_edges, h, w):
        raise ValueError(
            f"pairwise_loss: expected mask_logits and box_masks (N, h, w) and color_similarity (B, {num_edges}, h, w), got "
            f"{tuple(mask_logits.shape)}, {tuple(box_masks.shape)} and {tuple(color_similarity.shape)}"
        )


def pairwise_warmup(step: int, warmup_steps: int) -> float:
    """Factor of the pairwise loss in training step ``step``, counted from 1: ``min(step / warmup_steps, 1)``.

    ``warmup_steps=0`` means finished, which is how a fine-tune starts.
    """
    return min(step / warmup_steps, 1.0) if warmup_steps > 0 else 1.0
