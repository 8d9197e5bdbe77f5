"""Projection loss (BoxInst, Eq. 2): the mask and its box have the same projections onto the x and y axes.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.losses.dice import dice_distance
from cis_seg.ops.precision import at_least_float32


def projection_loss(mask_scores: Tensor, box_masks: Tensor, chosen: Tensor | None = None) -> Tensor:
    r"""Compute the dice distance between the projections of masks and boxes, summed over both axes; the mean over samples.

    .. math:: L = D(\max_y m, \max_y b) + D(\max_x m, \max_x b)

    with :math:`D` from ``losses.dice``, the scores :math:`m` and the filled box :math:`b`. The maximum passes its gradient to a single
    pixel, also among equal ones. ``amax`` would distribute it, which differs from the reference on a constant mask.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        box_masks: ``(N, h, w)`` 0 or 1, any type.
        chosen: ``(N,)`` bool, the samples that count; None: all.

    Returns:
        Scalar, float32; 0 without samples.

    Raises:
        ValueError: inconsistent shapes.

    Example:
        >>> box = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
        >>> diagonal = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])  # touches all four sides of the box
        >>> round(projection_loss(diagonal, box).item(), 4)
        0.0
    """
    everything = torch.ones(len(mask_scores), dtype=torch.bool, device=mask_scores.device)
    total, number = projection_sums(mask_scores, box_masks, everything if chosen is None else chosen)
    return total / number.clamp(min=1)


def projection_sums(mask_scores: Tensor, box_masks: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of ``projection_loss``, so that several processes can share a denominator."""
    shapes = [tuple(x.shape) for x in (mask_scores, box_masks, chosen)]
    if mask_scores.dim() != 3 or shapes[1:] != [shapes[0], shapes[0][:1]]:
        raise ValueError(
            f"projection_loss: expected mask_scores and box_masks (N, h, w) and chosen (N,), got {', '.join(map(str, shapes))}"
        )
    scores = at_least_float32(mask_scores)
    columns = dice_distance(scores.max(dim=1).values, box_masks.amax(dim=1).to(scores.dtype))
    rows = dice_distance(scores.max(dim=2).values, box_masks.amax(dim=2).to(scores.dtype))
    return (chosen * (columns + rows)).sum(), chosen.sum()
