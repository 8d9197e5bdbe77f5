"""Scores of detections that know how clear their masks are.

Legend: n detections of an image, h w mask grid.
"""

from __future__ import annotations

from torch import Tensor


def mean_mask_scores(mask_logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the mean mask score of the cells above ``threshold``, ``(n,)`` float32; 0 for a mask without any.

    This is SOLO's maskness (Wang et al. 2020, section 3.3), on the mask grid and not at the size of the image.

    Args:
        mask_logits: ``(n, h, w)``, without cells in the padding.
        threshold: minimum score of a cell that belongs to the mask.
    """
    scores = mask_logits.float().sigmoid()
    inside = scores > threshold
    return (scores * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)


def rescored(scores: Tensor, mask_logits: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return sqrt(score x mean mask score) of each detection, best first, and the order: the index of each in ``scores``.

    Deviation from SOLO, which multiplies: the root keeps scores in the range of thresholds that were chosen for the old ones. The order is
    the same. Equal scores stay in their order.

    Args:
        scores: ``(n,)`` in [0, 1].
        mask_logits: ``(n, h, w)``, as in ``mean_mask_scores``.
        threshold: as in ``mean_mask_scores``.

    Example:
        >>> mask_logits = torch.tensor([[[0.6, 0.1]], [[0.9, 0.9]]]).logit()
        >>> rescored(torch.tensor([0.6, 0.5]), mask_logits)
        (tensor([0.6708, 0.6000]), tensor([1, 0]))
    """
    values = (scores * mean_mask_scores(mask_logits, threshold)).sqrt()
    order = values.argsort(descending=True, stable=True)
    return values[order], order
