"""BoxInst's projection loss (its Eq. 2): a mask must span exactly its box.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

from torch import Tensor

from cis_seg.losses.dice import dice_distance
from cis_seg.ops.precision import at_least_float32


def projection_loss(mask_scores: Tensor, box_masks: Tensor) -> Tensor:
    """Dice of the column maxima plus dice of the row maxima, mean over samples; 0 for no samples.

    A maximum passes its gradient to one pixel only, also where several are equal: ``amax`` would share it out, which differs from the
    reference on a constant mask.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        box_masks: ``(N, h, w)`` 0 or 1, any type.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the two shapes differ or are not ``(N, h, w)``.
    """
    if mask_scores.dim() != 3 or mask_scores.shape != box_masks.shape:
        got = f"{tuple(mask_scores.shape)} and {tuple(box_masks.shape)}"
        raise ValueError(f"projection_loss: expected mask_scores and box_masks of one shape (N, h, w), got {got}")
    scores = at_least_float32(mask_scores)
    columns = dice_distance(scores.max(dim=1).values, box_masks.amax(dim=1).to(scores.dtype))
    rows = dice_distance(scores.max(dim=2).values, box_masks.amax(dim=2).to(scores.dtype))
    return (columns + rows).sum() / max(len(scores), 1)
