"""OverlapLoss (the paper's Eq. 1 and 2): the masks of different instances of an image exclude each other.

Legend: N masks, K selected masks (one per instance), h w mask grid, P its pixels; n_i and k_i are the counts of image i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cis_seg.ops.precision import at_least_float32, without_autocast

#: random generator of the selection: one for all images, or one per image of the batch
Generators = torch.Generator | Callable[[int], torch.Generator] | None

REDUCTIONS = ("pairs", "masks", "sum")


def overlap_degree(masks_a: Tensor, masks_b: Tensor) -> Tensor:
    r"""Return the degree of overlap of each pair of masks (Eq. 1).

    .. math:: d(a, b) = \frac{\lVert a \cdot b \rVert_1}{\lVert a + b \rVert_1}

    with the element-wise product and sum. The denominator is a sum, not a union: identical binary masks score 0.5, disjoint masks 0. Two
    empty masks score 0 with a gradient of 0. All numerators are one matrix product and the denominators come from two vectors of sums, so
    no ``(N, K, P)`` tensor is created.

    Args:
        masks_a: ``(N, h, w)`` in [0, 1], any float type.
        masks_b: ``(K, h, w)`` in [0, 1], any float type.

    Returns:
        ``(N, K)`` in [0, 0.5]; float32 (float64 for float64 input), also under autocast, since a bf16 product loses small overlaps.

    Raises:
        ValueError: the shapes are not ``(N, h, w)`` and ``(K, h, w)``.

    Example:
        >>> left = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
        >>> middle = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
        >>> overlap_degree(left, torch.cat([left, middle]))
        tensor([[0.5000, 0.2500]])
    """
    if masks_a.dim() != 3 or masks_b.dim() != 3 or masks_a.shape[1:] != masks_b.shape[1:]:
        got = f"{tuple(masks_a.shape)} and {tuple(masks_b.shape)}"
        raise ValueError(f"overlap_degree: expected masks_a (N, h, w) and masks_b (K, h, w) of one size, got {got}")
    with without_autocast(masks_a.device):
        a, b = at_least_float32(masks_a).flatten(1), at_least_float32(masks_b).flatten(1)  # (N, P), (K, P)
        total = a.sum(dim=1)[:, None] + b.sum(dim=1)  # (N, K)
        return (a @ b.T) / torch.where(total > 0, total, 1)


@dataclass(frozen=True)
class ImagePairs:
    """All masks of one image against its selected masks."""

    degrees: Tensor  # (n_i, k_i) Eq. 1
    valid: Tensor  # (n_i, k_i) bool: the two belong to different instances
    drawn: Tensor  # (k_i,) indices of the selected masks among the image's masks


def image_pairs(
    mask_scores: Tensor, gt_inds: Tensor, num_instances: int, *, detach_selected: bool = False, generator: torch.Generator | None = None
) -> ImagePairs:
    """Select one mask per instance of an image at random (``M_s`` of Eq. 2) and compare all masks with the selected ones.

    The random numbers are drawn on the CPU, so that they are the same on every device; copying them does not synchronise.

    Args:
        mask_scores: ``(n_i, h, w)`` in [0, 1].
        gt_inds: ``(n_i,)`` instance of each mask.
        num_instances: number of distinct values in ``gt_inds``, known on the host, so that shapes need no synchronisation.
        detach_selected: stop the gradient through the selected masks.
        generator: a CPU generator for the selection; None uses torch's global one.
    """
    # Sort by instance, in random order within each instance: the first mask of each group is a uniform choice.
    noise = torch.rand(len(gt_inds), generator=generator).to(gt_inds.device, non_blocking=True)
    order = torch.argsort(noise)
    order = order[torch.argsort(gt_inds[order], stable=True)]
    grouped = gt_inds[order]
    starts = torch.ones_like(grouped)
    starts[1:] = grouped[1:] != grouped[:-1]
    group = starts.cumsum(0) - 1  # index of the instance among the image's instances
    drawn = order[torch.searchsorted(group, torch.arange(num_instances, device=group.device))]
    selected = mask_scores[drawn]
    degrees = overlap_degree(mask_scores, selected.detach() if detach_selected else selected)
    # Only pairs of different instances count: two masks of one instance should agree.
    return ImagePairs(degrees, gt_inds[:, None] != gt_inds[drawn], drawn)


def overlap_pairs(
    mask_scores: Tensor,
    im_inds: Tensor,
    gt_inds: Tensor,
    *,
    detach_selected: bool = False,
    generator: Generators = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> list[ImagePairs]:
    """Return the pairs of each image of a batch, empty for an image without masks; the arguments are those of ``overlap_loss``."""
    if mask_scores.dim() != 3 or not len(mask_scores) == len(im_inds) == len(gt_inds):
        got = f"{tuple(mask_scores.shape)}, {tuple(im_inds.shape)} and {tuple(gt_inds.shape)}"
        raise ValueError(f"overlap_loss: expected mask_scores (N, h, w), im_inds (N,) and gt_inds (N,), got {got}")
    if sizes is None:
        order = torch.argsort(im_inds, stable=True)
        mask_scores, im_inds, gt_inds = mask_scores[order], im_inds[order], gt_inds[order]
        sizes = _sizes(im_inds, gt_inds)
    pairs, start = [], 0
    for image, (masks, instances) in enumerate(sizes):
        own = generator(image) if callable(generator) else generator
        part = slice(start, start + masks)
        pairs.append(image_pairs(mask_scores[part], gt_inds[part], instances, detach_selected=detach_selected, generator=own))
        start += masks
    return pairs


def _sizes(im_inds: Tensor, gt_inds: Tensor) -> list[tuple[int, int]]:
    """(masks, instances) of each image; synchronises once."""
    if not len(im_inds):
        return []
    masks = torch.bincount(im_inds)
    instances = torch.stack([im_inds, gt_inds], dim=1).unique(dim=0)[:, 0].bincount(minlength=len(masks))
    return [(n, k) for n, k in torch.stack([masks, instances], dim=1).tolist()]


def reduce_pairs(pairs: Sequence[ImagePairs], reduction: str) -> tuple[Tensor, Tensor]:
    """Return numerator and denominator of Eq. 2 separately, so that several processes can share a denominator.

    The prefactor of Eq. 2 is not legible in the paper. With V the valid pairs of an image and N its masks: ``pairs`` divides the image's
    sum of degrees by the number of V, ``masks`` divides it by N, and both are averaged over the images that have a valid pair; ``sum``
    adds up all degrees.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"overlap_loss: expected reduction to be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    sums = [(p.degrees * p.valid).sum() for p in pairs]
    if reduction == "sum":
        return torch.stack(sums).sum(), torch.ones_like(sums[0])
    numbers = [p.valid.sum() for p in pairs]
    over = [n.clamp(min=1) if reduction == "pairs" else max(len(p.valid), 1) for n, p in zip(numbers, pairs, strict=True)]
    total = torch.stack([s / n for s, n in zip(sums, over, strict=True)]).sum()
    return total, (torch.stack(numbers) > 0).sum().to(total.dtype)


def overlap_loss(
    mask_scores: Tensor,
    im_inds: Tensor,
    gt_inds: Tensor,
    *,
    reduction: str = "pairs",
    detach_selected: bool = False,
    generator: Generators = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    r"""Compute OverlapLoss (Eq. 2): the overlap of each mask with one randomly selected mask of every other instance in its image.

    .. math:: L = \frac{1}{|V|} \sum_{(n, k) \in V} d(m_n, m_k), \qquad V = \{(n, k) : m_n \in M,\ m_k \in M_s \text{ of another instance}\}

    for ``reduction="pairs"``, averaged over the images with a pair; :math:`d` is ``overlap_degree``. Pairs lie within an image and cross
    instances, whatever their class. Without a pair the loss is exactly 0 and so is its gradient.

    Args:
        mask_scores: ``(N, h, w)`` sigmoid scores, any float type; several masks may belong to one instance.
        im_inds: ``(N,)`` image of each mask within the batch.
        gt_inds: ``(N,)`` instance of each mask within its image.
        reduction: ``pairs``, ``masks`` or ``sum``, see ``reduce_pairs``.
        detach_selected: stop the gradient through the selected masks; by default both masks of a pair receive it.
        generator: of the selection: a CPU ``torch.Generator``, or a function from an image's index in the batch to one, which makes the
            selection independent of the other images of the batch; None uses torch's global generator.
        sizes: ``(masks, instances)`` of each image, if the masks are grouped by image; None reads them from the device, which synchronises.

    Returns:
        Scalar, float32 (float64 for float64 input), at most 0.5 for ``pairs``.

    Raises:
        ValueError: inconsistent shapes, or an unknown reduction.

    Example:
        >>> masks = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0, 0.0]]])  # two people who share a pixel
        >>> overlap_loss(masks, im_inds=torch.tensor([0, 0]), gt_inds=torch.tensor([0, 1]))
        tensor(0.2500)
    """
    pairs = overlap_pairs(mask_scores, im_inds, gt_inds, detach_selected=detach_selected, generator=generator, sizes=sizes)
    total, images = reduce_pairs(pairs or [_no_pairs(mask_scores)], reduction)
    return total / images.clamp(min=1)


def _no_pairs(mask_scores: Tensor) -> ImagePairs:
    """Empty pairs, whose sum is 0 and still part of the graph of ``mask_scores``."""
    nothing = torch.zeros(0, dtype=torch.int64, device=mask_scores.device)
    return ImagePairs(overlap_degree(mask_scores[:0], mask_scores[:0]), nothing.bool()[:, None][:, :0], nothing)
