"""Pairwise colour affinity loss (BoxInst, Eq. 5 to 8): neighbouring pixels of similar colour get the same label; and its warm-up.

Legend: B batch, N mask samples, E neighbours, h w mask grid, M pixels in box masks; p a pixel and q its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cis_seg.ops.grids import neighbour_offsets, overlapping, shift
from cis_seg.ops.precision import at_least_float32

Offsets = tuple[tuple[int, int], ...]
#: logits, pixels in boxes, alike edges, image of each sample, offsets of the edges -> sum of costs, sum of weights, gradient of the former
EdgeSum = Callable[[Tensor, Tensor, Tensor, Tensor, Offsets], tuple[Tensor, Tensor, Tensor]]


def pairwise_loss(
    mask_logits: Tensor,
    box_masks: Tensor,
    color_similarity: Tensor,
    im_inds: Tensor,
    *,
    size: int = 3,
    dilation: int = 2,
    color_thresh: float = 0.3,
) -> Tensor:
    r"""Compute the mean of ``-log P(p and q have the same label)`` over the edges of similar colour inside the boxes, before warm-up.

    .. math:: L = \frac{1}{|E|} \sum_{(p, q) \in E} -\log\bigl(s(a) s(b) + s(-a) s(-b)\bigr)

    with the logits :math:`a, b` of p and q and the sigmoid :math:`s`. An edge is in :math:`E` if its colour similarity is at least
    ``color_thresh`` and p lies in the box (BoxInst, Eq. 8: a positive edge is known, the label of any other is not). The cost equals
    ``softplus(a) + softplus(b) - softplus(a + b)``, which is always finite. A neighbour outside the map costs 0.

    On a CPU only the edges in :math:`E` are computed, from a list of their two ends, so that work and memory grow with their number, not
    with N * E * h * w (boxes of a tenth of the image with a quarter of similar edges leave 3 %). On other devices the length of such a
    list would need a synchronisation; there each edge is computed once for both of its ends, with half as many shifts as neighbours.

    Args:
        mask_logits: ``(N, h, w)``, any float type.
        box_masks: ``(N, h, w)`` 0 or 1, any type.
        color_similarity: ``(B, E, h, w)`` from ``cis_seg.ops.color``, one per image.
        im_inds: ``(N,)`` image of each sample.
        size: side of the neighbourhood of ``color_similarity``.
        dilation: distance of the neighbours.
        color_thresh: minimum similarity of an edge; 0.3 in BoxInst.

    Returns:
        Scalar, float32: the sum over all samples of the batch divided by the number of edges (at least 1); 0 without samples.

    Raises:
        ValueError: inconsistent shapes.

    Example:
        >>> logits = torch.zeros(1, 4, 4)  # a score of 0.5 everywhere: any two labels agree with probability 0.5
        >>> similarity = torch.ones(1, 8, 4, 4)
        >>> pairwise_loss(logits, torch.ones(1, 4, 4), similarity, torch.tensor([0]), dilation=1)  # log 2 but for the border
        tensor(0.4549)
    """
    total, weight = pairwise_sums(
        mask_logits, box_masks, color_similarity, im_inds, size=size, dilation=dilation, color_thresh=color_thresh
    )
    return total / weight.clamp(min=1)


def pairwise_sums(
    mask_logits: Tensor,
    box_masks: Tensor,
    color_similarity: Tensor,
    im_inds: Tensor,
    *,
    size: int = 3,
    dilation: int = 2,
    color_thresh: float = 0.3,
) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of ``pairwise_loss``, so that several processes can share a denominator."""
    offsets = neighbour_offsets(size, dilation)
    _check_shapes(mask_logits, box_masks, color_similarity, len(offsets))
    alike = color_similarity >= color_thresh  # (B, E, h, w)
    edges = _listed_edges if mask_logits.device.type == "cpu" else _shifted_edges
    sums: tuple[Tensor, Tensor] = _EdgeCosts.apply(at_least_float32(mask_logits), box_masks.bool(), alike, im_inds, offsets, edges)
    return sums


class _EdgeCosts(torch.autograd.Function):
    """Sum of the costs of the edges and of their weights. The gradient is computed with the cost, so that no graph of edges is stored."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, inside: Tensor, alike: Tensor, im_inds: Tensor, offsets: Offsets, edges: EdgeSum
    ) -> tuple[Tensor, Tensor]:
        cost, weight, grad = edges(logits, inside, alike, im_inds, offsets)
        ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(weight)
        return cost, weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_cost: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_cost, None, None, None, None, None


def _listed_edges(logits: Tensor, inside: Tensor, alike: Tensor, im_inds: Tensor, offsets: Offsets) -> tuple[Tensor, Tensor, Tensor]:
    """Return cost, weight and gradient from a list of edges: first the pixels in boxes, then their neighbours of similar colour."""
    h, w = logits.shape[1:]
    pixels = inside.flatten().nonzero().squeeze(1)  # (M,)
    n = pixels.div(h * w, rounding_mode="floor")
    place = pixels - n * (h * w)  # within the map
    by_pixel = alike.flatten(2).transpose(1, 2).contiguous().flatten(0, 1)  # (B * h * w, E), a pixel's edges side by side for a fast gather
    of_pixels = by_pixel.index_select(0, im_inds.index_select(0, n) * (h * w) + place)  # (M, E)
    in_map = torch.stack([shift(alike.new_ones(h, w), dy, dx) for dy, dx in offsets], dim=2).flatten(0, 1)  # (h * w, E)
    m, e = (of_pixels & in_map.index_select(0, place)).nonzero(as_tuple=True)
    p = pixels.index_select(0, m)  # faster here than indexing with brackets
    q = p + torch.tensor([dy * w + dx for dy, dx in offsets]).index_select(0, e)
    flat = logits.flatten()
    cost, grad_p, grad_q = _costs(flat.index_select(0, p), flat.index_select(0, q))
    grad = torch.zeros_like(logits, memory_format=torch.contiguous_format).view(-1).index_add_(0, p, grad_p).index_add_(0, q, grad_q)
    return cost.sum(), of_pixels.sum(), grad.view_as(logits)


def _shifted_edges(logits: Tensor, inside: Tensor, alike: Tensor, im_inds: Tensor, offsets: Offsets) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same from shifted maps. The second half of the offsets has each edge once, with a weight of 0, 1 or 2."""
    cost, weight, grad = logits.new_zeros(()), inside.new_zeros((), dtype=torch.int64), torch.zeros_like(logits)
    half = len(offsets) // 2
    for e, (dy, dx) in enumerate(offsets[half:], start=half):
        ahead = inside & alike[:, e][im_inds]  # (N, h, w), seen from p
        behind = inside & alike[:, len(offsets) - 1 - e][im_inds]  # seen from q
        weight += ahead.sum() + behind.sum()
        p, q = overlapping(logits, dy, dx)
        weights = overlapping(ahead, dy, dx)[0].to(logits.dtype) + overlapping(behind, dy, dx)[1]
        costs, grad_p, grad_q = _costs(p, q)
        cost += (weights * costs).sum()
        at_p, at_q = overlapping(grad, dy, dx)
        at_p += weights * grad_p
        at_q += weights * grad_q
    return cost, weight, grad


def _costs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``-log P(same)`` of the logits a and b and its derivatives with respect to a and b, all of their shape."""
    both = torch.sigmoid(a + b)
    return F.softplus(a) + F.softplus(b) - F.softplus(a + b), torch.sigmoid(a) - both, torch.sigmoid(b) - both


def _check_shapes(mask_logits: Tensor, box_masks: Tensor, color_similarity: Tensor, num_edges: int) -> None:
    n, h, w = mask_logits.shape if mask_logits.dim() == 3 else (-1, -1, -1)
    if n < 0 or box_masks.shape != mask_logits.shape or color_similarity.shape[1:] != (num_edges, h, w):
        raise ValueError(
            f"pairwise_loss: expected mask_logits and box_masks (N, h, w) and color_similarity (B, {num_edges}, h, w), got "
            f"{tuple(mask_logits.shape)}, {tuple(box_masks.shape)} and {tuple(color_similarity.shape)}"
        )


def ramp(step: int, steps: int) -> float:
    """Return the factor of a term at training step ``step``, counted from 1: ``min(step / steps, 1)``.

    BoxInst ramps the pairwise loss over its first 10,000 iterations; at full weight from the start, untrained masks vanish. BoxTeacher
    does the same with the teacher's term. ``steps=0`` means that the ramp is over, as in a fine-tune.
    """
    return min(step / steps, 1.0) if steps > 0 else 1.0
