"""Dice loss (V-Net, as in CondInst): for ground-truth masks, and for the projections of the projection loss.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

import torch
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


def dice_loss(mask_scores: Tensor, gt_masks: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Compute the mean dice distance between masks and ground-truth masks; 0 without samples.

    .. math:: L = \frac{\sum_n w_n D(m_n, t_n)}{|\{n : w_n > 0\}|}

    with :math:`D` from ``dice_distance``. A weight below 1 lowers a mask's share in the sum but not the number of masks, so that a batch
    of doubtful masks counts less than a batch of good ones.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        gt_masks: ``(N, h, w)`` 0 or 1, any type.
        weights: ``(N,)`` 0 or more; 0 leaves a sample out; None: 1 for all.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: inconsistent shapes.

    Example:
        >>> masks = torch.tensor([[[1.0, 1.0, 0.0]]])
        >>> round(dice_loss(masks, torch.tensor([[[1.0, 0.0, 0.0]]])).item(), 4)  # 1 - 2 * 1 / (2 + 1)
        0.3333
    """
    ones = torch.ones(len(mask_scores), dtype=torch.float32, device=mask_scores.device)
    total, number = dice_sums(mask_scores, gt_masks, ones if weights is None else weights)
    return total / number.clamp(min=1)


def dice_sums(mask_scores: Tensor, gt_masks: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of ``dice_loss``, so that several processes can share a denominator."""
    shapes = [tuple(x.shape) for x in (mask_scores, gt_masks, weights)]
    if mask_scores.dim() != 3 or shapes[1:] != [shapes[0], shapes[0][:1]]:
        raise ValueError(f"dice_loss: expected two tensors (N, h, w) and weights (N,), got {', '.join(map(str, shapes))}")
    scores = at_least_float32(mask_scores).flatten(1)
    distances = dice_distance(scores, gt_masks.to(scores.dtype).flatten(1))
    return (weights * distances).sum(), (weights > 0).sum()
