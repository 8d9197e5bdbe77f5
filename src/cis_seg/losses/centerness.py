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
    r"""Compute the binary cross entropy of the positives with their centerness targets as soft labels.

    .. math:: L = \frac{1}{N_{pos}} \sum_k -t_k \log s(x_k) - (1 - t_k) \log(1 - s(x_k))

    Args:
        logits: ``(...)``, any float type.
        targets: ``(...)`` in [0, 1], from ``centerness_targets``.
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
