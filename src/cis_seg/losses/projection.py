"""Projection loss (BoxInst, Eq. 2): the mask and its box have the same projections onto the x and y axes.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

import torch  # noqa: F401  # for the example
from torch import Tensor

from cis_seg.losses.dice import dice_distance
from cis_seg.ops.precision import at_least_float32


def projection_loss(mask_scores: Tensor, box_masks: Tensor) -> Tensor:
    r"""Compute the dice distance between the projections of masks and boxes, summed over both axes; the mean over samples.

    .. math:: L = D(\max_y m, \max_y b) + D(\max_x m, \max_x b)

    with :math:`D` from ``losses.dice``, the scores :math:`m` and the filled box :math:`b`. The maximum passes its gradient to a single
    pixel, also among equal ones. ``amax`` would distribute it, which differs from the reference on a constant mask.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        box_masks: ``(N, h, w)`` 0 or 1, any type.

    Returns:
        Scalar, float32; 0 without samples.

    Raises:
        ValueError: the two shapes differ or are not ``(N, h, w)``.

    Example:
        >>> box = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
        >>> diagonal = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])  # touches all four sides of the box
        >>> round(projection_loss(diagonal, box).item(), 4)
        0.0
    """
    if mask_scores.dim() != 3 or mask_scores.shape != box_masks.shape:
        got = f"{tuple(mask_scores.shape)} and {tuple(box_masks.shape)}"
        raise ValueError(f"projection_loss: expected mask_scores and box_masks of one shape (N, h, w), got {got}")
    scores = at_least_float32(mask_scores)
    columns = dice_distance(scores.max(dim=1).values, box_masks.amax(dim=1).to(scores.dtype))
    rows = dice_distance(scores.max(dim=2).values, box_masks.amax(dim=2).to(scores.dtype))
    return (columns + rows).sum() / max(len(scores), 1)
