"""OverlapLoss (the paper's Eq. 1 and 2): masks of neighbouring people exclude each other.

Legend: N masks, K drawn masks (one an instance), h w the mask grid, P its pixels; n_i and k_i are an image's share of N and K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cis_seg.ops.precision import at_least_float32, without_autocast
from cis_seg.runtime.collectives import sum_over_processes


@torch.no_grad()
def overlap_statistics(pairs: Sequence[ImagePairs], mask_scores: Tensor, boxes: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """Figures of one step, to be logged under ``train/``.

    Args:
        pairs: of each image, as the loss compared them.
        mask_scores: ``(N, h, w)`` in [0, 1].
        boxes: ``(N, 4)`` xyxy true boxes of the masks.
        counts: masks of each image, sum N.

    Returns:
        Scalars of the global batch: ``overlap_degree``, the mean of Eq. 1 over the pairs whose true boxes touch (0 without any);
        ``overlap_pairs``, the number of valid pairs; ``overlap_shared``, the share of the drawn masks' pixels (score above 0.5) that two or
        more claim.
    """
    degree, touching, valid, shared, claimed = (mask_scores.new_zeros(()) for _ in range(5))
    for p, scores, corners in zip(pairs, mask_scores.split(list(counts)), boxes.split(list(counts)), strict=True):
        near = p.valid & _touch(corners, corners[p.drawn])
        degree, touching, valid = degree + (p.degrees * near).sum(), touching + near.sum(), valid + p.valid.sum()
        claims = (scores[p.drawn] > 0.5).sum(dim=0)  # (h, w)
        shared, claimed = shared + (claims > 1).sum(), claimed + (claims > 0).sum()
    degree, touching, valid, shared, claimed = sum_over_processes(torch.stack([degree, touching, valid, shared, claimed]))
    return {
        "overlap_degree": degree / touching.clamp(min=1),
        "overlap_pairs": valid,
        "overlap_shared": shared / claimed.clamp(min=1),
    }


def _touch(a: Tensor, b: Tensor) -> Tensor:
    """``(n, 4)`` and ``(k, 4)`` -> ``(n, k)`` bool: the boxes share at least a point."""
    first = torch.maximum(a[:, None, :2], b[:, :2])
    last = torch.minimum(a[:, None, 2:], b[:, 2:])
    return (first <= last).all(dim=2)


#: a source of draws, one for all images or one for each image of the batch
Generators = torch.Generator | Callable[[int], torch.Generator] | None

REDUCTIONS = ("pairs", "masks", "sum")


def overlap_degree(masks_a: Tensor, masks_b: Tensor) -> Tensor:
    """Degree of overlap of every mask with every other (Eq. 1): ``sum(a b) / sum(a + b)``.

    The denominator is a sum, not a union: equal binary masks score 0.5, disjoint ones 0. Two empty masks score 0 with a gradient of 0.
    One matrix product and two vectors of sums; nothing of size ``(N, K, P)`` exists.

    Args:
        masks_a: ``(N, h, w)`` in [0, 1], any float type.
        masks_b: ``(K, h, w)`` likewise.

    Returns:
        ``(N, K)`` in [0, 0.5], float32 (float64 for float64), also under autocast: a bf16 product would lose the digits of small overlaps.

    Raises:
        ValueError: the shapes are not ``(N, h, w)`` and ``(K, h, w)``.
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
    """All the masks of one image against the drawn ones."""

    degrees: Tensor  # (n_i, k_i) Eq. 1
    valid: Tensor  # (n_i, k_i) bool: the two belong to different instances
    drawn: Tensor  # (k_i,) index of the drawn masks among the image's


def image_pairs(
    mask_scores: Tensor, gt_inds: Tensor, num_instances: int, *, detach_selected: bool = False, generator: torch.Generator | None = None
) -> ImagePairs:
    """Draws one mask of each instance of an image (``M_s`` of Eq. 2) and compares all masks with them.

    The draw is made on the CPU, so that it is the same on every device; it travels one way and nothing waits for it.

    Args:
        mask_scores: ``(n_i, h, w)`` in [0, 1].
        gt_inds: ``(n_i,)`` instance of each mask.
        num_instances: number of different values in ``gt_inds``, on the host: the shapes follow from it without asking the device.
        detach_selected: no gradient through the drawn masks.
        generator: of the draw (a CPU generator); None takes torch's global one.
    """
    noise = torch.rand(len(gt_inds), generator=generator).to(gt_inds.device, non_blocking=True)
    order = torch.argsort(noise)
    order = order[torch.argsort(gt_inds[order], stable=True)]  # by instance, in random order within each
    grouped = gt_inds[order]
    starts = torch.ones_like(grouped)
    starts[1:] = grouped[1:] != grouped[:-1]
    group = starts.cumsum(0) - 1  # 0, 1, .. for the instances in order
    drawn = order[torch.searchsorted(group, torch.arange(num_instances, device=group.device))]  # the first of each group
    selected = mask_scores[drawn]
    degrees = overlap_degree(mask_scores, selected.detach() if detach_selected else selected)
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
    """The pairs of every image of a batch; arguments as in ``overlap_loss``. Images without masks have empty pairs."""
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
    """(masks, instances) of each image, read from the device once."""
    if not len(im_inds):
        return []
    masks = torch.bincount(im_inds)
    instances = torch.stack([im_inds, gt_inds], dim=1).unique(dim=0)[:, 0].bincount(minlength=len(masks))
    return [(n, k) for n, k in torch.stack([masks, instances], dim=1).tolist()]


def reduce_pairs(pairs: Sequence[ImagePairs], reduction: str) -> tuple[Tensor, Tensor]:
    """The numerator and the denominator of Eq. 2, so that several processes can share a denominator.

    ``pairs`` and ``masks`` are means over the images that have a valid pair, of the sum of the degrees over the number of valid pairs, or
    over the number of masks; ``sum`` adds all degrees up. The paper's prefactor is not legible; this is our reading of it.

    Raises:
        ValueError: another reduction.
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
    """OverlapLoss (Eq. 2): the degrees of overlap of all masks with one randomly drawn mask of every other instance of their image.

    Pairs lie inside an image and across instances, whatever the class. Without such a pair the loss is exactly 0 with a gradient of 0.

    Args:
        mask_scores: ``(N, h, w)`` sigmoid scores, any float type; several masks may belong to one instance.
        im_inds: ``(N,)`` image of each mask within the batch.
        gt_inds: ``(N,)`` instance of each mask within its image.
        reduction: ``pairs``, ``masks`` or ``sum``, see ``reduce_pairs``.
        detach_selected: no gradient through the drawn masks; the default lets both masks of a pair give way.
        generator: of the draw: a CPU ``torch.Generator``, or a function from the image's index in the batch to one, which makes the draw of
            an image independent of the images beside it; None takes torch's global generator.
        sizes: ``(masks, instances)`` of each image of the batch, for masks that are grouped by image; None asks the device, and waits.

    Returns:
        Scalar, float32 (float64 for float64), at most 0.5 for ``pairs``.

    Raises:
        ValueError: shapes that do not belong together, or another reduction.
    """
    pairs = overlap_pairs(mask_scores, im_inds, gt_inds, detach_selected=detach_selected, generator=generator, sizes=sizes)
    total, images = reduce_pairs(pairs or [_no_pairs(mask_scores)], reduction)
    return total / images.clamp(min=1)


def _no_pairs(mask_scores: Tensor) -> ImagePairs:
    """The pairs of an image without masks; their sum is 0 and connected to ``mask_scores``."""
    nothing = torch.zeros(0, dtype=torch.int64, device=mask_scores.device)
    return ImagePairs(overlap_degree(mask_scores[:0], mask_scores[:0]), nothing.bool()[:, None][:, :0], nothing)
