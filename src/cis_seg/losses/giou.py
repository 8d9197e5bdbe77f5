"""Box regression: generalised IoU from distances to the sides.

Legend: ... locations; ltrb in units of the stride.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.ops.precision import at_least_float32


def iou_and_giou(pred_ltrb: Tensor, target_ltrb: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed IoU and GIoU of two boxes around the same point (AdelaiDet, FCOS head).

    ``iou = (I + 1) / (U + 1)``, ``giou = iou - (C - U) / C`` with C the smallest box around both. The 1 (a square stride) keeps tiny boxes'
    gradients small; it is not in the GIoU paper.

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
    # two boxes without area: 0, not 0 / 0
    return iou, iou - (enclosing - union) / enclosing.clamp(min=torch.finfo(outer.dtype).eps)


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[..., 0] + ltrb[..., 2]) * (ltrb[..., 1] + ltrb[..., 3])


def giou_loss(pred_ltrb: Tensor, target_ltrb: Tensor, weights: Tensor, normaliser: Tensor | float) -> Tensor:
    """``sum(weights * (1 - giou)) / normaliser``; 0 for no positives.

    Args:
        pred_ltrb: ``(..., 4)`` >= 0, any float type.
        target_ltrb: ``(..., 4)`` >= 0.
        weights: ``(...)``, the centerness targets; 0 where background.
        normaliser: their sum (mean over devices), at least 1e-6.

    Returns:
        Scalar, float32.
    """
    _, giou = iou_and_giou(at_least_float32(pred_ltrb), at_least_float32(target_ltrb))
    return (weights * (1 - giou)).sum() / normaliser
