"""All raw loss terms of one step. The weights and the sum are applied outside (``training/module.py``).

Legend: B batch, K locations, N mask samples, h w the mask grid, T positive locations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cis_seg.config.loss_schema import MixedConfig, OverlapConfig, PairwiseConfig, TeacherConfig
from cis_seg.losses.detection import centerness_loss, focal_loss, giou_loss
from cis_seg.losses.dice import dice_sums
from cis_seg.losses.mask_targets import MaskTargets, mask_targets
from cis_seg.losses.overlap import ImagePairs, overlap_pairs, reduce_pairs
from cis_seg.losses.pairwise import pairwise_sums, ramp
from cis_seg.losses.projection import projection_sums
from cis_seg.losses.teacher import teacher_sums
from cis_seg.ops.boxes import boxes_touch
from cis_seg.ops.color import color_similarity, pooled_colors, valid_mask
from cis_seg.ops.masks import box_masks
from cis_seg.runtime.collectives import mean_over_processes, number_of_processes, sum_over_processes
from cis_seg.structures import Assignment, Batch, DensePredictions, MaskSamples, PseudoMasks


@dataclass(frozen=True)
class Criterion:
    """Compute the loss terms with a non-zero weight, under the names of the weights and logs.

    Args:
        weights: ``{"cls", "box", "ctr", "mask", "proj", "pairwise", "overlap", "teacher"}`` -> weight; a term of weight 0 is
            neither computed nor logged.
        mask_out_stride: pixels of the input per pixel of the mask logits.
        pairwise: neighbourhood, threshold, warm-up and colours of the pairwise loss.
        overlap: reduction and gradient of OverlapLoss.
        teacher: ramp of the teacher's term.
        mixed: what trains an instance that has a mask, for targets with ``mask_scores``.
        seed: seed of OverlapLoss's draws.
    """

    weights: Mapping[str, float]
    mask_out_stride: int = 4
    pairwise: PairwiseConfig = field(default_factory=PairwiseConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)
    seed: int = 0

    def __call__(
        self,
        dense: DensePredictions,
        assignment: Assignment,
        samples: MaskSamples,
        mask_logits: Tensor,
        batch: Batch,
        *,
        step: int,
        pseudo: PseudoMasks | None = None,
    ) -> dict[str, Tensor]:
        """Return the raw terms of one step.

        Args:
            dense: predictions for ``batch``.
            assignment: the training target of each location.
            samples: the positives of ``mask_logits``.
            mask_logits: ``(N, h, w)`` float32 at ``mask_out_stride``.
            batch: pixels and targets.
            step: training step, from 1, for the warm-up of the pairwise loss and the ramp of the teacher's term.
            pseudo: the teacher's masks, if its term has a weight.

        Returns:
            ``{"loss_*": scalar}``; without a positive location a term is 0 with a gradient of 0. ``loss_overlap`` and ``loss_teacher``
            come with statistics ``overlap_*`` and ``teacher_*`` without gradient.
        """
        return self.detection_losses(dense, assignment) | self.mask_losses(samples, mask_logits, batch, step=step, pseudo=pseudo)

    def detection_losses(self, dense: DensePredictions, assignment: Assignment) -> dict[str, Tensor]:
        """Return FCOS's terms: focal loss, GIoU loss weighted by centerness, centerness loss.

        The normalisers are those of the global batch, so that several devices give the result of one.
        """
        # (B, K); background has weight 0 in the sums below, because indexing the positives would synchronise
        positive = assignment.gt_inds >= 0
        # class and centerness terms are divided by the number of positives (at least 1), the box term by the sum of its weights
        own = torch.stack([positive.sum().float(), assignment.centerness.sum()])
        num_pos, sum_ctr = shared_normaliser(own, least=own.new_tensor([1.0, 1e-6]))
        losses = {
            "loss_cls": focal_loss(dense.cls_logits, assignment.labels, num_pos, assignment.ignored),
            "loss_box": giou_loss(dense.ltrb, assignment.ltrb, assignment.centerness, sum_ctr),
            "loss_ctr": centerness_loss(dense.ctr_logits, assignment.centerness, num_pos, positive),
        }
        return {name: value for name, value in losses.items() if self._wanted(name)}

    def mask_losses(
        self, samples: MaskSamples, mask_logits: Tensor, batch: Batch, *, step: int, pseudo: PseudoMasks | None = None
    ) -> dict[str, Tensor]:
        """Return the mask terms: from boxes (projection, pairwise), from masks (ground truth's, the teacher's), and OverlapLoss."""
        losses: dict[str, Tensor] = {}
        mask_scores = mask_logits.sigmoid()
        chosen = samples.gt_inds.split(list(samples.counts))
        boxes = torch.cat([target.boxes[inds] for target, inds in zip(batch.targets, chosen, strict=True)])
        inside = box_masks(boxes, (mask_logits.shape[-2], mask_logits.shape[-1]), self.mask_out_stride)
        targets = mask_targets(samples, batch, inside, self.mask_out_stride, **vars(self.mixed))
        if self._wanted("loss_proj"):
            total, number = projection_sums(mask_scores, inside, targets.boxed)
            losses["loss_proj"] = total / shared_normaliser(number.float())
        if self._wanted("loss_pairwise"):
            # the pairwise term starts near 0, since it is misleading while masks are still random (BoxInst)
            factor = ramp(step, self.pairwise.warmup_steps)
            losses["loss_pairwise"] = factor * self._pairwise(samples, mask_logits, targets, batch)
        if self._wanted("loss_mask"):
            assert targets.masks is not None, "supervision=mask and supervision=mixed need targets with masks"
            total, number = dice_sums(mask_scores, targets.masks, targets.weights)
            losses["loss_mask"] = total / shared_normaliser(number.float())
        if self._wanted("loss_overlap"):
            losses |= self._overlap(samples, mask_scores, boxes, batch)
        if self._wanted("loss_teacher"):
            assert pseudo is not None, "the teacher's term needs its masks"
            losses |= self._teacher(samples, mask_scores, targets, pseudo, step)
        return losses

    def _wanted(self, name: str) -> bool:
        return self.weights.get(name.removeprefix("loss_"), 0.0) != 0

    def _pairwise(self, samples: MaskSamples, mask_logits: Tensor, targets: MaskTargets, batch: Batch) -> Tensor:
        settings, stride = self.pairwise, self.mask_out_stride
        colors = pooled_colors(batch.clean_pixels, stride, truncate=settings.truncate_colors)
        valid = valid_mask(
            batch.image_sizes,
            batch.original_sizes,
            batch.padded_size,
            stride,
            mask_logits.device,
            settings.bottom_margin,
        )
        similarity = color_similarity(colors, valid, size=settings.size, dilation=settings.dilation)
        total, weight = pairwise_sums(
            mask_logits,
            targets.inside & targets.boxed[:, None, None],
            similarity,
            samples.im_inds,
            size=settings.size,
            dilation=settings.dilation,
            color_thresh=settings.color_thresh,
        )
        return total / shared_normaliser(weight.float())

    def _overlap(self, samples: MaskSamples, mask_scores: Tensor, boxes: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return OverlapLoss and its statistics; the draw for an image depends only on the seed and its position in the training stream."""

        def draw(image: int) -> torch.Generator:
            # 32 bits for a CPU generator; no two images of a run share a draw, runs of different seeds share them a million images apart
            return torch.Generator().manual_seed((self.seed * 1_000_003 + batch.positions[image]) % 2**32)

        sizes = list(zip(samples.counts, samples.instances, strict=True))
        pairs = overlap_pairs(
            mask_scores, samples.im_inds, samples.gt_inds, detach_selected=self.overlap.detach_selected, generator=draw, sizes=sizes
        )
        total, images = reduce_pairs(pairs, self.overlap.reduction)
        share = images / number_of_processes() if self.overlap.reduction == "sum" else mean_over_processes(images)
        return {"loss_overlap": total / torch.where(share > 0, share, 1)} | overlap_statistics(pairs, mask_scores, boxes, samples.counts)

    def _teacher(
        self, samples: MaskSamples, mask_scores: Tensor, targets: MaskTargets, pseudo: PseudoMasks, step: int
    ) -> dict[str, Tensor]:
        """Return the teacher's term, ramped, and its statistics."""
        rows = pseudo.rows(samples)
        quality = pseudo.quality[rows] * targets.boxed
        total, number = teacher_sums(mask_scores, pseudo.masks[rows], pseudo.trusted[rows], quality)
        loss = ramp(step, self.teacher.ramp_steps) * total / shared_normaliser(number.float())
        return {"loss_teacher": loss} | teacher_statistics(pseudo)


def shared_normaliser(own: Tensor, least: Tensor | float = 1.0) -> Tensor:
    """Return the divisor of each process's sum: the mean of ``own`` over processes, at least ``least`` in total.

    The mean over processes of the divided sums is then the global sum divided by the global ``own``. The reference shares only the
    normalisers of the detection terms, applies ``least`` per device, and averages mask terms per device. On one device both agree.
    """
    return torch.maximum(mean_over_processes(own), torch.as_tensor(least, device=own.device) / number_of_processes())


@torch.no_grad()
def overlap_statistics(pairs: Sequence[ImagePairs], mask_scores: Tensor, boxes: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """Return the overlap statistics of one step, which are logged under ``train/``.

    Args:
        pairs: the pairs of each image, as the loss compared them.
        mask_scores: ``(N, h, w)`` in [0, 1].
        boxes: ``(N, 4)`` xyxy ground-truth boxes of the masks.
        counts: number of masks of each image; they sum to N.

    Returns:
        Scalars of the global batch: ``overlap_degree``, the mean of Eq. 1 over the pairs whose ground-truth boxes touch (0 without any);
        ``overlap_pairs``, the number of valid pairs; ``overlap_shared``, the fraction of the selected masks' pixels (score above 0.5) that
        lie in two or more of them.
    """
    degree, touching, valid, shared, claimed = (mask_scores.new_zeros(()) for _ in range(5))
    for p, scores, corners in zip(pairs, mask_scores.split(list(counts)), boxes.split(list(counts)), strict=True):
        near = p.valid & boxes_touch(corners, corners[p.drawn])
        degree, touching, valid = degree + (p.degrees * near).sum(), touching + near.sum(), valid + p.valid.sum()
        claims = (scores[p.drawn] > 0.5).sum(dim=0)  # (h, w)
        shared, claimed = shared + (claims > 1).sum(), claimed + (claims > 0).sum()
    degree, touching, valid, shared, claimed = sum_over_processes(torch.stack([degree, touching, valid, shared, claimed]))
    return {
        "overlap_degree": degree / touching.clamp(min=1),
        "overlap_pairs": valid,
        "overlap_shared": shared / claimed.clamp(min=1),
    }


@torch.no_grad()
def teacher_statistics(pseudo: PseudoMasks) -> dict[str, Tensor]:
    """Return the statistics of a teacher's masks, which are logged under ``train/``.

    Returns:
        Scalars of the global batch: ``teacher_quality``, the mean quality of the instances; ``teacher_ignored``, the pixels that do not
        count, as a fraction of the masks' area.
    """
    claimed, ignored = (pseudo.masks > 0.5).sum(), (~pseudo.trusted).sum()
    own = torch.stack([pseudo.quality.sum(), claimed.new_tensor(len(pseudo.quality)), ignored, claimed]).float()
    quality, number, ignored, claimed = sum_over_processes(own)
    return {"teacher_quality": quality / number.clamp(min=1), "teacher_ignored": ignored / claimed.clamp(min=1)}
