"""Centerness: binary cross entropy against a soft target.

Legend: ... locations.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.boxes import centerness_targets
from cis_seg.ops.precision import at_least_float32

__all__ = ["centerness_loss", "centerness_targets"]


def centerness_loss(logits: Tensor, targets: Tensor, num_pos: Tensor | float, positive: Tensor | None = None) -> Tensor:
    """Binary cross entropy summed over the positives (FCOS, Eq. 3); 0 for none.

    Args:
        logits: ``(...)``, any float type.
        targets: ``(...)`` in [0, 1], from ``centerness_targets``.
        num_pos: what the sum is divided by: positives (mean over devices), at least 1.
        positive: ``(...)`` bool, the locations that count; None counts all.

    Returns:
        Scalar, float32.
    """
    logits = at_least_float32(logits)
    weight = None if positive is None else positive.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), weight, reduction="sum") / num_pos
