"""Snap masks to the edges of an image: a mean field over the colours inside each mask's box (as in MAL, Lan et al. 2023, without training).

Legend: N instances, B batch, E neighbours, h w mask grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cis_seg.ops.grids import neighbour_offsets, shift
from cis_seg.ops.precision import at_least_float32

#: weights of neighbours held at once, 256 MB of float32; more instances are computed in several parts
MAX_WEIGHTS = 64_000_000
#: mask scores are kept this far from 0 and 1, which have no finite logit
MARGIN = 1e-4

Offsets = Sequence[tuple[int, int]]


@torch.no_grad()
def mean_field(
    mask_scores: Tensor,
    colors_lab: Tensor,
    box_masks: Tensor,
    im_inds: Tensor,
    *,
    sigma: float = 5.0,
    dilations: Sequence[int] = (1, 2),
    unary: float = 0.2,
    strength: float = 9.0,
    iterations: int = 100,
    evidence: Tensor | None = None,
) -> Tensor:
    """Refine mask scores so that neighbours of similar colour agree.

    Each iteration replaces all scores q of a mask at once by ``sigmoid(unary * logit(p) + strength * vote)`` inside the box and by 0
    outside, where p is the given score and vote the mean of ``2 q - 1`` over the neighbours on the map, weighted by
    ``exp(-|Lab difference|^2 / (2 sigma^2))``. Neighbours outside the box vote for background.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        colors_lab: ``(B, 3, h, w)`` CIE Lab colours on the mask grid.
        box_masks: ``(N, h, w)`` filled boxes, bool or 0 and 1.
        im_inds: ``(N,)`` image of each mask.
        sigma: difference in Lab at which a neighbour's weight falls to 0.61.
        dilations: distances of the 3x3 neighbourhoods in cells.
        unary: weight of the given score.
        strength: weight of the neighbours' vote.
        iterations: number of updates.
        evidence: ``(N, h, w)`` logits added to the field; None: none.

    Returns:
        ``(N, h, w)`` refined scores, float32 (float64 if given that), 0 outside the boxes; without gradient.

    Example:
        >>> scores = torch.tensor([0.9, 0.4, 0.1]).expand(1, 3, 3)  # the middle column has the colour of the left one
        >>> colors = torch.tensor([50.0, 50.0, 90.0]).expand(1, 3, 3, 3)
        >>> mean_field(scores, colors, torch.ones(1, 3, 3), torch.tensor([0]))[0, 0].round(decimals=2)
        tensor([1., 1., 0.])
    """
    _check_shapes(mask_scores, colors_lab, box_masks, im_inds)
    offsets = [offset for dilation in dilations for offset in neighbour_offsets(3, dilation)]
    scores, inside = at_least_float32(mask_scores), box_masks != 0
    weights = _color_weights(at_least_float32(colors_lab), offsets, sigma).to(scores.dtype)  # (E, B, h, w)
    given = unary * scores.logit(MARGIN) + (0 if evidence is None else evidence)
    at_once = max(1, MAX_WEIGHTS // max(1, len(offsets) * scores[0:1].numel()))
    parts = zip(*(x.split(at_once) for x in (scores, given, inside, im_inds)), strict=True)
    return torch.cat([_iterate(q, u, box, strength * weights[:, i], offsets, iterations) for q, u, box, i in parts])


def _color_weights(lab: Tensor, offsets: Offsets, sigma: float) -> Tensor:
    """Return the weight of each neighbour, ``(E, B, h, w)``; they sum to 1 over the neighbours on the map."""
    ones = torch.ones_like(lab[:, 0])
    squares = [(lab - shift(lab, dy, dx)).square().sum(dim=1) for dy, dx in offsets]
    weights = torch.stack([torch.exp(s / (-2 * sigma**2)) * shift(ones, *offset) for s, offset in zip(squares, offsets, strict=True)])
    return weights / weights.sum(dim=0).clamp(min=torch.finfo(weights.dtype).tiny)


def _iterate(scores: Tensor, given: Tensor, inside: Tensor, weights: Tensor, offsets: Offsets, iterations: int) -> Tensor:
    """Return the scores ``(n, h, w)`` after the updates; ``weights (E, n, h, w)`` include the strength."""
    h, w = scores.shape[-2:]
    reach = max(max(map(abs, offset)) for offset in offsets)
    scores = scores * inside
    for _ in range(iterations):
        votes = F.pad(2 * scores - 1, (reach,) * 4)
        field = given.clone()
        for weight, (dy, dx) in zip(weights, offsets, strict=True):
            field.addcmul_(weight, votes[:, reach + dy : reach + dy + h, reach + dx : reach + dx + w])
        scores = field.sigmoid_() * inside
    return scores


def _check_shapes(mask_scores: Tensor, colors_lab: Tensor, box_masks: Tensor, im_inds: Tensor) -> None:
    n, h, w = mask_scores.shape if mask_scores.dim() == 3 else (-1, -1, -1)
    if n < 0 or box_masks.shape != mask_scores.shape or colors_lab.shape[1:] != (3, h, w) or im_inds.shape != (n,):
        raise ValueError(
            f"mean_field: expected mask_scores and box_masks (N, h, w), colors_lab (B, 3, h, w) and im_inds (N,), got "
            f"{tuple(mask_scores.shape)}, {tuple(box_masks.shape)}, {tuple(colors_lab.shape)} and {tuple(im_inds.shape)}"
        )
