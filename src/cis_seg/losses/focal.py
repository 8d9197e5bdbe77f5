"""Focal loss of the classes (RetinaNet, FCOS Eq. 2), over all locations.

Legend: B batch, K locations, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from cis_seg.ops.precision import at_least_float32


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
