"""Focal loss of the classes (RetinaNet, FCOS Eq. 2), over all locations.

Legend: B batch, K locations, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from cis_seg.ops.precision import at_least_float32


def focal_loss(logits: Tensor, labels: Tensor, num_pos: Tensor | float, ignored: Tensor | None = None) -> Tensor:
    """Compute the sigmoid focal loss with alpha 0.25 and gamma 2 (RetinaNet), summed over locations and classes.

    Args:
        logits: ``(B, K, C)``, any float type.
        labels: ``(B, K)`` int64 class, C for background.
        num_pos: divisor of the sum: number of positives (mean over devices), at least 1.
        ignored: ``(B, K)`` bool, locations excluded from the sum; None excludes none.

    Returns:
        Scalar, float32.
    """
    logits = at_least_float32(logits)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (labels[..., None] == classes).to(logits.dtype)  # (B, K, C)
    if ignored is not None:
        each: Tensor = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2.0)
        return each.masked_fill(ignored[..., None], 0.0).sum() / num_pos
    total: Tensor = sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2.0, reduction="sum")
    return total / num_pos
