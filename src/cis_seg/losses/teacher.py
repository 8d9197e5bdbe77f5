"""Dice loss with the masks of a teacher, weighted by their quality (BoxTeacher, Eq. 6), on the pixels that are trusted.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

import torch  # noqa: F401  # for the example
from torch import Tensor

from cis_seg.losses.dice import dice_sums
from cis_seg.ops.precision import at_least_float32


def teacher_loss(mask_scores: Tensor, teacher_masks: Tensor, trusted: Tensor, quality: Tensor) -> Tensor:
    r"""Compute the dice distance to a teacher's masks, weighted by their quality.

    .. math:: L = \frac{\sum_n s_n D(w_n m_n, w_n t_n)}{|\{n : s_n > 0\}|}

    with :math:`D` from ``losses.dice``, the scores :math:`m`, the teacher's mask :math:`t`, its quality :math:`s`, and :math:`w` 1 at
    trusted pixels and 0 elsewhere. No gradient flows into the teacher's masks if they have none.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1], any float type.
        teacher_masks: ``(N, h, w)`` in [0, 1]: the teacher's mask of each sample's instance.
        trusted: ``(N, h, w)`` bool: other pixels do not count.
        quality: ``(N,)`` 0 or more; 0 leaves a sample out.

    Returns:
        Scalar, float32; 0 if no sample has a quality above 0.

    Raises:
        ValueError: inconsistent shapes.

    Example:
        >>> teacher = torch.tensor([[[1.0, 1.0, 0.0]]])
        >>> scores = torch.tensor([[[1.0, 0.0, 1.0]]])  # wrong about the second pixel, and about the third, which is not trusted
        >>> trusted, quality = torch.tensor([[[True, True, False]]]), torch.tensor([0.6])
        >>> round(teacher_loss(scores, teacher, trusted, quality).item(), 4)  # 0.6 (1 - 2 * 1 / (1 + 2))
        0.2
    """
    total, number = teacher_sums(mask_scores, teacher_masks, trusted, quality)
    return total / number.clamp(min=1)


def teacher_sums(mask_scores: Tensor, teacher_masks: Tensor, trusted: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of ``teacher_loss``, so that several processes can share a denominator."""
    shapes = [tuple(x.shape) for x in (mask_scores, teacher_masks, trusted, quality)]
    if mask_scores.dim() != 3 or shapes[1:] != [shapes[0], shapes[0], shapes[0][:1]]:
        raise ValueError(f"teacher_loss: expected three tensors (N, h, w) and quality (N,), got {', '.join(map(str, shapes))}")
    scores = at_least_float32(mask_scores)
    targets = teacher_masks.to(scores.dtype)
    return dice_sums(scores * trusted, targets * trusted, quality)
