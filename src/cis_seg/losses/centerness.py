"""Centerness loss (FCOS, Eq. 3): binary cross entropy with a soft target.

Legend: ... locations.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.boxes import centerness_targets
from cis_seg.ops.precision import at_least_float32

__all__ = ["centerness_loss", "centerness_targets"]


def centerness_loss(logits: Tensor, targets: Tensor, num_pos: Tensor | float, positive: Tensor | None = None) -> Tensor:
    """Compute the binary cross entropy summed over the positives; 0 without any.

    Args:
        logits: ``(...)``, any float type.
        targets: ``(...)`` in [0, 1], from ``centerness_targets``.
        num_pos: divisor of the sum: number of positives (mean over devices), at least 1.
        positive: ``(...)`` bool, the locations in the sum; None takes all.

    Returns:
        Scalar, float32.
    """
    logits = at_least_float32(logits)
    weight = None if positive is None else positive.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), weight, reduction="sum") / num_pos
