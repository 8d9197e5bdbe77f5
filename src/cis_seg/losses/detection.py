"""The losses of the FCOS head: focal loss of the classes, GIoU loss of the boxes, and centerness loss.

Legend: B batch, K locations, C classes, ... any shape of locations; ltrb in units of the stride.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

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


def focal_loss(logits: Tensor, labels: Tensor, num_pos: Tensor | float, ignored: Tensor | None = None) -> Tensor:
    r"""Compute the sigmoid focal loss with alpha 0.25 and gamma 2 (Lin et al. 2017, Eq. 5; FCOS, Eq. 2).

    .. math:: L = \frac{1}{N_{pos}} \sum_{k, c} -\alpha_t (1 - p_t)^\gamma \log p_t

    with :math:`p_t` the predicted probability of the right answer, :math:`\alpha_t` = 0.25 for the class of a positive and 0.75 otherwise.

    Args:
        logits: ``(B, K, C)``, any float type.
        labels: ``(B, K)`` int64 class, C for background.
        num_pos: divisor of the sum: number of positives (mean over devices), at least 1.
        ignored: ``(B, K)`` bool, locations excluded from the sum; None excludes none.

    Returns:
        Scalar, float32.

    Example:
        >>> logits, labels = torch.zeros(1, 1, 1), torch.tensor([[0]])
        >>> focal_loss(logits, labels, 1.0)  # 0.25 * 0.5 ** 2 * log 2
        tensor(0.0433)
    """
    logits = at_least_float32(logits)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (labels[..., None] == classes).to(logits.dtype)  # (B, K, C)
    if ignored is not None:
        each: Tensor = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2.0)
        return each.masked_fill(ignored[..., None], 0.0).sum() / num_pos
    total: Tensor = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2.0, reduction="sum")
    return total / num_pos


def centerness_loss(logits: Tensor, targets: Tensor, num_pos: Tensor | float, positive: Tensor | None = None) -> Tensor:
    r"""Compute the binary cross entropy of the positives with their centerness targets as soft labels.

    .. math:: L = \frac{1}{N_{pos}} \sum_k -t_k \log s(x_k) - (1 - t_k) \log(1 - s(x_k))

    Args:
        logits: ``(...)``, any float type.
        targets: ``(...)`` in [0, 1], from ``ops.boxes.centerness_targets``.
        num_pos: divisor of the sum: number of positives (mean over devices), at least 1.
        positive: ``(...)`` bool, the locations in the sum; None takes all.

    Returns:
        Scalar, float32; 0 without positives.

    Example:
        >>> logits, targets = torch.zeros(2), torch.tensor([0.2, 0.9])
        >>> centerness_loss(logits, targets, 2.0)  # a logit of 0 costs log 2 for any target
        tensor(0.6931)
    """
    logits = at_least_float32(logits)
    weight = None if positive is None else positive.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), weight, reduction="sum") / num_pos
