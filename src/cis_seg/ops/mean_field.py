"""Snap masks to the edges of an image: a mean field over the colours inside each mask's box (as in MAL, Lan et al. 2023, without training).

Legend: N masks, n masks of a group, B batch, E neighbours, h w mask grid, a b window around boxes of similar size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from cis_seg.ops.grids import neighbour_offsets
from cis_seg.ops.masks import Windows, windows_around
from cis_seg.ops.precision import at_least_float32

#: shorter side, in cells, of the smallest box that is refined at dilations 1 and 2. In a narrower one, most neighbours lie outside the
#: box, and on photographs refinement lowers the IoU of such masks (results/photographs.md).
LEAST_SIDE = 8
#: mask scores are kept this far from 0 and 1, which have no finite logit
MARGIN = 1e-4

Offsets = Sequence[tuple[int, int]]
#: scores in windows ``(n, a, b)`` and the windows -> logits ``(n, a, b)`` that are added to the field
Evidence = Callable[[Tensor, Windows], Tensor]


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
    evidence: Evidence | None = None,
    rounds: int = 1,
    windows: Sequence[Windows] | None = None,
) -> Tensor:
    """Refine mask scores so that neighbours of similar colour agree.

    Each iteration replaces all scores q of a mask at once by ``sigmoid(unary * logit(p) + strength * vote + evidence)`` inside the box and
    by 0 outside, where p is the given score and vote the mean of ``2 q - 1`` over the neighbours on the map, weighted by
    ``exp(-|Lab difference|^2 / (2 sigma^2))``. Neighbours outside the box vote for background.

    Because all scores change at once, a pixel that is similar only to pixels of the opposite score alternates between two values. With
    neighbours at the distances 1 and 2 few pixels do (0.1 % of those in the boxes of the generated crowd), so the updates are not damped.
    On a checkerboard of colours, neighbours at the distance 1 alone make whole masks alternate.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        colors_lab: ``(B, 3, h, w)`` CIE Lab colours on the mask grid.
        box_masks: ``(N, h, w)`` filled boxes, bool or 0 and 1.
        im_inds: ``(N,)`` image of each mask.
        sigma: difference in Lab at which a neighbour's weight falls to 0.61.
        dilations: distances of the 3x3 neighbourhoods in cells.
        unary: weight of the given score.
        strength: weight of the neighbours' vote.
        iterations: number of updates, 1 or more.
        evidence: computed from the scores at the start of each round; None: none.
        rounds: the number of times that the evidence is computed and the updates start again from the given scores.
        windows: ``windows_around(box_masks)``; None computes them, which synchronises the device. Masks in no window are only cut to
            their boxes.

    Returns:
        ``(N, h, w)`` refined scores, float32 (float64 if given that), 0 outside the boxes; without gradient.

    Example:
        >>> scores = torch.tensor([0.9, 0.4, 0.1]).expand(1, 3, 3)  # the middle column has the colour of the left one
        >>> colors = torch.tensor([50.0, 50.0, 90.0]).expand(1, 3, 3, 3)
        >>> mean_field(scores, colors, torch.ones(1, 3, 3), torch.tensor([0]))[0, 0].round(decimals=2)
        tensor([1., 1., 0.])
    """
    _check_shapes(mask_scores, colors_lab, box_masks, im_inds)
    offsets = list(chain.from_iterable(neighbour_offsets(3, dilation) for dilation in dilations))
    reach, boxes = max(dilations), box_masks.bool()
    refined = at_least_float32(mask_scores) * boxes
    # a neighbour beyond the map differs infinitely, so its weight is 0
    colors = F.pad(at_least_float32(colors_lab), (reach,) * 4, value=torch.inf)
    for part in windows_around(boxes) if windows is None else windows:
        inside = part.cut(boxes, part.chosen)
        scores = at_least_float32(part.cut(mask_scores, part.chosen))
        weights = strength * _color_weights(part.cut(colors, im_inds[part.chosen], reach=reach), offsets, sigma, reach)
        found, given = scores * inside, unary * scores.logit(MARGIN)
        for _ in range(rounds):
            field = given if evidence is None else given + evidence(found, part)
            found = _settled(scores * inside, field, inside, weights.to(scores.dtype), offsets, iterations)
        part.paste(found, refined)
    return refined


def _color_weights(lab: Tensor, offsets: Offsets, sigma: float, reach: int) -> Tensor:
    """Return the weight of each neighbour, ``(E, n, a, b)``, for colours ``(n, 3, a + 2 reach, b + 2 reach)``; they sum to 1 over E."""
    inner = _shifted(lab, 0, 0, reach)
    squares = [(inner - _shifted(lab, dy, dx, reach)).square().sum(dim=1) for dy, dx in offsets]
    weights = torch.stack(squares).div_(-2 * sigma**2).exp_()
    return weights.div_(weights.sum(dim=0).clamp(min=torch.finfo(weights.dtype).tiny))


def _settled(scores: Tensor, given: Tensor, inside: Tensor, weights: Tensor, offsets: Offsets, iterations: int) -> Tensor:
    """Return the scores ``(n, a, b)`` after the updates; ``weights (E, n, a, b)`` include the strength."""
    reach = max(map(abs, chain.from_iterable(offsets)))
    votes = F.pad(2 * scores - 1, (reach,) * 4, value=-1.0)  # the cells around a window lie outside the box
    own, neighbours = _shifted(votes, 0, 0, reach), [_shifted(votes, dy, dx, reach) for dy, dx in offsets]
    field = torch.empty_like(scores)
    for _ in range(iterations):
        field.copy_(given)
        for weight, neighbour in zip(weights, neighbours, strict=True):
            field.addcmul_(weight, neighbour)
        field.sigmoid_().mul_(inside)
        torch.mul(field, 2, out=own).sub_(1)
    return field


def _shifted(x: Tensor, dy: int, dx: int, reach: int) -> Tensor:
    """Return the view of ``x``, which is widened by ``reach`` on each side, that lies (dy, dx) from its middle."""
    h, w = x.shape[-2] - 2 * reach, x.shape[-1] - 2 * reach
    return x[..., reach + dy : reach + dy + h, reach + dx : reach + dx + w]


def _check_shapes(mask_scores: Tensor, colors_lab: Tensor, box_masks: Tensor, im_inds: Tensor) -> None:
    n, h, w = mask_scores.shape if mask_scores.dim() == 3 else (-1, -1, -1)
    if n < 0 or box_masks.shape != mask_scores.shape or colors_lab.shape[1:] != (3, h, w) or im_inds.shape != (n,):
        raise ValueError(
            f"mean_field: expected mask_scores and box_masks (N, h, w), colors_lab (B, 3, h, w) and im_inds (N,), got "
            f"{tuple(mask_scores.shape)}, {tuple(box_masks.shape)}, {tuple(colors_lab.shape)} and {tuple(im_inds.shape)}"
        )
