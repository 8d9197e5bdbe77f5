"""What trains each mask sample: its box, the mask of its annotation, or both.

Legend: B batch, N mask samples, h w mask grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cis_seg.structures import Batch, MaskSamples


@dataclass(frozen=True)
class MaskTargets:
    """The targets of the mask samples, and the losses that each of them has."""

    inside: Tensor  # (N, h, w) bool, the filled boxes
    boxed: Tensor  # (N,) bool, samples that the box losses and the teacher train
    masks: Tensor | None  # (N, h, w) bool, empty for a sample without a mask; None with supervision=box
    weights: Tensor  # (N,) float32 in [0, 1], weight in the dice loss; 0 without a mask


def mask_targets(
    samples: MaskSamples,
    batch: Batch,
    inside: Tensor,
    stride: int,
    *,
    least_score: float,
    cut_to_box: bool,
    box_losses: str,
) -> MaskTargets:
    """Return the targets of ``samples``.

    A target without ``mask_scores`` has true masks (supervision=mask) or none (supervision=box); then the box losses train every sample.

    Args:
        samples: the mask samples of ``batch``.
        batch: targets, all with masks or all without, and all with scores or all without.
        inside: ``(N, h, w)`` bool, the filled boxes.
        stride: pixels of the input per pixel of the mask grid.
        least_score: minimum score of a mask; one with less counts as none.
        cut_to_box: set noisy masks, those with a score below 1, to 0 outside their box.
        box_losses: samples that the box losses train: ``unmasked`` those without a mask, ``noisy`` also those with a noisy one, ``all``.
    """
    everything = torch.ones(len(inside), dtype=torch.bool, device=inside.device)
    masks = _sampled(samples, batch, inside, stride)
    if masks is None:
        return MaskTargets(inside, everything, None, torch.zeros_like(everything, dtype=torch.float32))
    scores = _scores(samples, batch)
    if scores is None:
        return MaskTargets(inside, everything, masks, everything.float())
    weights = scores * (scores >= least_score)
    noisy = (weights > 0) & (scores < 1)
    if cut_to_box:
        masks &= inside | ~noisy[:, None, None]
    also = {"unmasked": ~everything, "noisy": noisy, "all": everything}[box_losses]
    return MaskTargets(inside, (weights == 0) | also, masks, weights)


def _sampled(samples: MaskSamples, batch: Batch, inside: Tensor, stride: int) -> Tensor | None:
    """Return the masks ``(N, h, w)``, sampled at the centres of the mask grid's cells like the box masks; None if none are loaded."""
    half, start = stride // 2, 0
    masks = torch.zeros_like(inside)
    for target, chosen in zip(batch.targets, samples.gt_inds.split(list(samples.counts)), strict=True):
        if target.masks is None:
            return None
        sampled = target.masks[:, half::stride, half::stride]
        masks[start : start + len(chosen), : sampled.shape[1], : sampled.shape[2]] = sampled[chosen]
        start += len(chosen)
    return masks


def _scores(samples: MaskSamples, batch: Batch) -> Tensor | None:
    """Return the score ``(N,)`` of each sample's mask; None if all masks are true."""
    chosen = samples.gt_inds.split(list(samples.counts))
    scores = [target.mask_scores[own] for target, own in zip(batch.targets, chosen, strict=True) if target.mask_scores is not None]
    return torch.cat(scores) if scores else None
