"""Box regression: generalised IoU loss on distances to the sides.

Legend: ... locations; ltrb in units of the stride.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.ops.precision import at_least_float32


def iou_and_giou(pred_ltrb: Tensor, target_ltrb: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smoothed IoU and GIoU of two boxes around the same point.

    ``iou = (I + 1) / (U + 1)`` and ``giou = iou - (C - U) / C`` with the intersection I, the union U and the enclosing box C (Rezatofighi
    et al. 2019, Alg. 1). As in AdelaiDet, 1 (one stride squared) is added to I and U, which limits the gradients of tiny boxes.

    Args:
        pred_ltrb: ``(..., 4)`` >= 0.
        target_ltrb: ``(..., 4)`` >= 0.

    Returns:
        ``(iou, giou)``, each ``(...)``.
    """
    inner = torch.minimum(pred_ltrb, target_ltrb)
    outer = torch.maximum(pred_ltrb, target_ltrb)
    intersection = _area(inner)
    union = _area(pred_ltrb) + _area(target_ltrb) - intersection
    enclosing = _area(outer)
    iou = (intersection + 1) / (union + 1)
    # two boxes without area give 0 instead of 0 / 0
    return iou, iou - (enclosing - union) / enclosing.clamp(min=torch.finfo(outer.dtype).eps)


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[..., 0] + ltrb[..., 2]) * (ltrb[..., 1] + ltrb[..., 3])


def giou_loss(pred_ltrb: Tensor, target_ltrb: Tensor, weights: Tensor, normaliser: Tensor | float) -> Tensor:
    r"""Compute the GIoU loss of the positives, weighted by their centerness targets (AdelaiDet).

    .. math:: L = \frac{1}{\sum_k w_k} \sum_k w_k \bigl(1 - \mathrm{GIoU}_k\bigr)

    Args:
        pred_ltrb: ``(..., 4)`` >= 0 in units of the stride, any float type.
        target_ltrb: ``(..., 4)`` >= 0 in units of the stride.
        weights: ``(...)``, the centerness targets; 0 for background.
        normaliser: sum of the weights (mean over devices), at least 1e-6.

    Returns:
        Scalar, float32; 0 without positives.

    Example:
        >>> ones = torch.ones(1, 4)  # a 2 x 2 box in a 4 x 4 box: I = 4, U = C = 16
        >>> giou_loss(ones, 2 * ones, torch.tensor([1.0]), 1.0)  # 1 - 5 / 17
        tensor(0.7059)
    """
    _, giou = iou_and_giou(at_least_float32(pred_ltrb), at_least_float32(target_ltrb))
    return (weights * (1 - giou)).sum() / normaliser
