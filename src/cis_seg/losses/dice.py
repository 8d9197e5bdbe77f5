"""Dice loss (V-Net, as in CondInst): for ground-truth masks, and for the projections of the projection loss.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

import torch  # noqa: F401  # for the example
from torch import Tensor

from cis_seg.ops.precision import at_least_float32

_EPSILON = 1e-5  # two empty masks give 1 - 0 / epsilon = 1 instead of 0 / 0 (the reference's value)


def dice_distance(scores: Tensor, truth: Tensor) -> Tensor:
    """Return ``1 - 2 sum(p t) / (sum(p^2) + sum(t^2) + 1e-5)`` over the last axis, V-Net's squared form as in CondInst.

    Args:
        scores: ``(N, L)`` in [0, 1].
        truth: ``(N, L)`` in [0, 1], of the same dtype.

    Returns:
        ``(N,)``.
    """
    intersection = (scores * truth).sum(dim=-1)
    return 1 - 2 * intersection / (scores.square().sum(dim=-1) + truth.square().sum(dim=-1) + _EPSILON)


def dice_loss(mask_scores: Tensor, gt_masks: Tensor) -> Tensor:
    """Compute the mean dice distance between masks and ground-truth masks; 0 without samples.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        gt_masks: ``(N, h, w)`` 0 or 1, any type.

    Returns:
        Scalar, float32.

    Example:
        >>> masks = torch.tensor([[[1.0, 1.0, 0.0]]])
        >>> round(dice_loss(masks, torch.tensor([[[1.0, 0.0, 0.0]]])).item(), 4)  # 1 - 2 * 1 / (2 + 1)
        0.3333
    """
    scores = at_least_float32(mask_scores).flatten(1)
    distances = dice_distance(scores, gt_masks.to(scores.dtype).flatten(1))
    return distances.sum() / max(len(distances), 1)
