"""The teacher: masks of the ground-truth boxes, from the running average of the network, as targets for the network (BoxTeacher).

Legend: B batch, T ground truths of the batch, V voting locations of a box, h w mask grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from cis_seg.config.loss_schema import TeacherConfig
from cis_seg.config.schema import ModelConfig
from cis_seg.inference.given_boxes import best_locations
from cis_seg.model.condinst import CondInst
from cis_seg.ops.color import ColorModel, pooled_colors, rgb_to_lab
from cis_seg.ops.masks import Windows, box_masks, windows_around
from cis_seg.ops.mean_field import LEAST_SIDE, mean_field
from cis_seg.structures import Batch, DensePredictions, MaskSamples, PseudoMasks, Target

#: probability from which a pixel belongs to a mask
CLAIM = 0.5


@dataclass(frozen=True)
class Teacher:
    """Predict a mask of every ground truth from the unaugmented image.

    A box needs neither NMS nor matching: the locations that FCOS lets learn it are known. The masks of those that fit best are averaged,
    weighted by their fit, cut to the box, and optionally refined by the image's colours.

    Deviations from BoxTeacher: it matches the box with detections after NMS, takes the mask of one, and trusts all pixels; refinement is
    from MAL, pixels that are ignored from SIM.

    Args:
        options: locations, targets, ignored pixels, refinement.
        model: size ranges, stride of the masks, and ``max_mask_samples``, the maximum of masks rendered per image: in a crowd of more than
            a share of it, fewer locations vote.
    """

    options: TeacherConfig
    model: ModelConfig

    @torch.no_grad()
    def __call__(self, network: CondInst, batch: Batch) -> PseudoMasks:
        """Return the masks of all ground truths of ``batch`` by ``network``, which is set to evaluation."""
        numbers = [len(target.boxes) for target in batch.targets]
        starts = tuple(accumulate(numbers[:-1], initial=0))
        if not sum(numbers):
            nothing = torch.zeros(0, *self._grid(batch), device=batch.clean_pixels.device)
            return PseudoMasks(nothing, nothing.bool(), nothing.new_zeros(0), starts)
        boxes = torch.cat([target.boxes for target in batch.targets])
        im_inds = torch.repeat_interleave(torch.tensor(numbers)).to(boxes.device, non_blocking=True)
        inside = box_masks(boxes, self._grid(batch), self.model.mask_out_stride)
        # before the network, because it synchronises the device
        windows = windows_around(inside, least_side=LEAST_SIDE) if self.options.refine else []
        network.eval()
        dense: DensePredictions = network(network.normalize(batch.clean_pixels, batch.image_sizes))
        scores, confidence = self._voted(network, dense, batch)
        refined = self._refined(scores * inside, inside, windows, im_inds, batch)
        quality = self._quality(scores, refined > CLAIM, confidence)
        return PseudoMasks(self._targets(refined), self._trusted(refined, im_inds, len(numbers)), quality, starts)

    def _grid(self, batch: Batch) -> tuple[int, int]:
        """Return (h, w)."""
        height, width = batch.padded_size
        return height // self.model.mask_out_stride, width // self.model.mask_out_stride

    def _voted(self, network: CondInst, dense: DensePredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the averaged mask scores ``(T, h, w)`` of all boxes and the fit of their best location ``(T,)``."""
        places, fits = zip(*(self._locations(dense, i, target, batch) for i, target in enumerate(batch.targets)), strict=True)
        counts = tuple(place.numel() for place in places)
        im_inds = torch.repeat_interleave(torch.tensor(counts)).to(dense.ltrb.device, non_blocking=True)
        loc_inds = torch.cat([place.flatten() for place in places])
        scores = network.mask_logits(dense, MaskSamples(im_inds, loc_inds, loc_inds, counts, counts)).sigmoid()
        means = [
            (fit[:, :, None, None] * part.unflatten(0, fit.shape)).sum(dim=0) / fit.sum(dim=0).clamp(min=1e-6)[:, None, None]
            for fit, part in zip(fits, scores.split(counts), strict=True)
        ]
        return torch.cat(means), torch.cat([fit.amax(dim=0) for fit in fits])

    def _locations(self, dense: DensePredictions, index: int, target: Target, batch: Batch) -> tuple[Tensor, Tensor]:
        number = max(1, min(self.options.locations, self.model.max_mask_samples // max(1, len(target.boxes))))
        return best_locations(
            dense, index, target.boxes, target.labels, number, padded_size=batch.padded_size, size_ranges=self.model.size_ranges
        )

    def _refined(self, scores: Tensor, inside: Tensor, windows: Sequence[Windows], im_inds: Tensor, batch: Batch) -> Tensor:
        options, stride = self.options, self.model.mask_out_stride
        if not options.refine:
            return scores
        colors = rgb_to_lab(pooled_colors(batch.clean_pixels, stride, truncate=False))
        evidence, rounds = None, 1
        if options.colors:
            boxes = torch.cat([target.boxes for target in batch.targets])
            sides = boxes[:, 2:] - boxes[:, :2]
            around = box_masks(boxes + torch.cat([-sides / 2, sides / 2], dim=1), (scores.shape[-2], scores.shape[-1]), stride)
            evidence = ColorModel.of(colors, inside, around, im_inds, weight=options.colors, margin=options.color_margin)
            rounds = options.color_rounds
        return mean_field(scores, colors, inside, im_inds, iterations=options.refine, evidence=evidence, rounds=rounds, windows=windows)

    def _targets(self, scores: Tensor) -> Tensor:
        return scores if self.options.targets == "soft" else (scores > CLAIM).to(scores.dtype)

    def _trusted(self, scores: Tensor, im_inds: Tensor, images: int) -> Tensor:
        """Return the pixels ``(T, h, w)`` that are neither uncertain nor contested."""
        low, high = self.options.ignored
        trusted = (scores <= low) | (scores >= high)
        if self.options.contested == "ignore":
            claimed = scores > CLAIM
            claims = scores.new_zeros(images, *scores.shape[1:]).index_add_(0, im_inds, claimed.to(scores.dtype))  # (B, h, w)
            trusted &= ~claimed | (claims < 2)[im_inds]
        return trusted

    def _quality(self, scores: Tensor, claimed: Tensor, confidence: Tensor) -> Tensor:
        """Return sqrt(confidence x mean probability inside the mask); 0 for an empty mask or a box without a location."""
        mean = (scores * claimed).sum(dim=(1, 2)) / claimed.sum(dim=(1, 2)).clamp(min=1)
        quality = (confidence * mean).sqrt()
        return quality if self.options.quality == "confidence" else (quality > 0).to(quality.dtype)
