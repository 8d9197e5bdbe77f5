"""Whole training steps: forward, assignment, mask samples, losses, backward, optimiser.

Legend: B batch, N mask samples, H W padded input, h w mask grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import torch
from torch import Tensor, nn

from cis_seg.assign import assign, select_mask_samples
from cis_seg.benchmark import textbook
from cis_seg.benchmark.rows import STRIDE, Row, Setting, Side, Work
from cis_seg.benchmark.textbook import scene
from cis_seg.config.loss_schema import PairwiseConfig, TeacherConfig
from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.model.build import build_model
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.ops.color import pooled_colors
from cis_seg.runtime.machine import FORMATS, memory_format
from cis_seg.structures import Batch, DensePredictions, MaskSamples
from cis_seg.training.module import CondInstModule
from cis_seg.training.optim import follow
from cis_seg.training.teacher import Teacher

WEIGHTS = {"cls": 1.0, "box": 1.0, "ctr": 1.0, "proj": 1.0, "pairwise": 1.0, "overlap": 1.0}
#: as on the generated crowd
TEACHER = TeacherConfig(momentum=0.99, refine=10, colors=3.0)
#: gain of the last norm of each residual block: at 1, random weights would let the features explode over 16 blocks
RESIDUAL_GAIN = 0.2


@dataclass(frozen=True)
class Step:
    """The configuration of a training step."""

    size: tuple[int, int]
    people: int  # per image
    batch: int = 2
    bf16: bool = False
    masks_per_image: int = 64
    teacher: bool = False
    model: ModelConfig = field(default_factory=ModelConfig)  # BoxInst's on R50
    quick: Step | None = None  # a tiny replacement


def random_network(setting: Setting, chosen: ModelConfig) -> CondInst:
    """Return a network for one class with random weights and the frozen stages of pretrained ones; a tiny ResNet if ``quick``."""
    torch.manual_seed(0)
    small = ModelConfig(
        backbone=BackboneConfig(depth=10, width=16, weights=None),
        neck_channels=16,
        head_channels=16,
        head_convs=1,
        head_norm_groups=4,
        mask_branch_channels=8,
        mask_feat_level=chosen.mask_feat_level,
        mask_out_stride=chosen.mask_out_stride,
    )
    model = build_model(small if setting.quick else chosen, 1)  # "imagenet" selects frozen norms and stages; no weights are loaded
    for name, buffer in model.backbone.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(RESIDUAL_GAIN)
    return model.to(setting.device)


def our_module(model: CondInst, step: Step) -> CondInstModule:
    """Return the LightningModule that trains ``model``."""
    return CondInstModule(
        model=model,
        criterion=Criterion(
            WEIGHTS | {"teacher": float(step.teacher)}, step.model.mask_out_stride, pairwise=PairwiseConfig(warmup_steps=0)
        ),
        postprocess=Postprocess(),
        optimizer=lambda _: (torch.optim.SGD([]), None),
        class_names=["person"],
        category_ids=[1],
        masks_per_image=step.masks_per_image,
        size_ranges=step.model.size_ranges,
        teacher=Teacher(TEACHER, step.model) if step.teacher else None,
        momentum=TEACHER.momentum if step.teacher else 0.0,
    )


def textbook_step(model: CondInst, batch: Batch, step: Step) -> dict[str, Tensor]:
    """Return the same losses with the textbook mask head and mask losses."""
    padded = batch.padded_size
    dense = model(model.normalize(batch.pixels, batch.image_sizes))
    assignment = assign(dense.locations, batch.targets, num_classes=1, padded_size=padded)
    with torch.no_grad():
        quality = dense.cls_logits.sigmoid().amax(dim=-1) * dense.ctr_logits.sigmoid()
    samples = select_mask_samples(assignment, quality, per_image=step.masks_per_image)
    params, at = _controlled_everywhere(model, dense, padded)[samples.im_inds, samples.loc_inds], samples.loc_inds
    logits = textbook.dynamic_mask_head(dense.mask_feats, params, dense.locations.xy[at], dense.locations.strides[at], samples.im_inds)
    detection = Criterion(WEIGHTS).detection_losses(dense, assignment)
    return detection | _textbook_mask_losses(logits, samples, batch, padded)


def _controlled_everywhere(model: CondInst, dense: DensePredictions, padded: tuple[int, int]) -> Tensor:
    """Return ``(B, K, P)``: the controller as a convolution over all locations."""
    sizes = [(ceil(padded[0] / 2**level), ceil(padded[1] / 2**level)) for level in LEVELS]
    parts = dense.tower_feats.split([h * w for h, w in sizes], dim=1)
    maps = [part.transpose(1, 2).unflatten(2, size).contiguous() for part, size in zip(parts, sizes, strict=True)]
    return torch.cat([model.head.controller(x).flatten(2).transpose(1, 2) for x in maps], dim=1)


def _textbook_mask_losses(logits: Tensor, samples: MaskSamples, batch: Batch, padded: tuple[int, int]) -> dict[str, Tensor]:
    similarities, bitmaps, overlaps, start = [], [], [], 0
    scores, colors = logits.sigmoid(), pooled_colors(batch.clean_pixels, STRIDE)
    valid = torch.ones(padded, device=logits.device)
    valid[padded[0] - 10 :] = 0
    for image, count in enumerate(samples.counts):
        own = slice(start, start + count)
        boxes = batch.targets[image].boxes[samples.gt_inds[own]]
        bitmaps.append(textbook.box_bitmaps(boxes, padded, STRIDE))
        similarity = textbook.color_similarity(colors[image], valid[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
        similarities.append(similarity.expand(count, -1, -1, -1))
        noise = torch.rand(count, generator=torch.Generator().manual_seed(batch.positions[image])).to(logits.device)
        overlaps.append(textbook.overlap_loss(scores[own], samples.gt_inds[own], noise))
        start += count
    inside = torch.cat(bitmaps)
    return {
        "loss_proj": textbook.projection_loss(scores, inside),
        "loss_pairwise": textbook.pairwise_loss(logits, inside, torch.cat(similarities)),
        "loss_overlap": torch.stack(overlaps).mean(),
    }


def negligible_sgd(model: CondInst) -> torch.optim.SGD:
    """Return an optimiser with full cost but a negligible learning rate, so that all repeats have the same losses."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-9, momentum=0.9, weight_decay=1e-4)


def step_side(step: Step, *, ours: bool) -> Side:
    """Return one side of a row."""

    def side(setting: Setting) -> Work:
        model, used = random_network(setting, step.model), step.quick if setting.quick and step.quick else step
        order, _ = memory_format("auto" if ours else "contiguous", channels=step.model.neck_channels, gpu=setting.device != "cpu")
        model.use_memory_format(FORMATS[order])
        batch = scene(used.size, used.people, batch=used.batch, device=setting.device)
        optimizer, module = negligible_sgd(model), our_module(model, used)

        def work() -> Mapping[str, Tensor]:
            with torch.autocast(setting.device, dtype=torch.bfloat16, enabled=used.bf16):
                losses = module.losses(batch, step=TEACHER.ramp_steps) if ours else textbook_step(model, batch, used)
            terms = {name: value for name, value in losses.items() if name.startswith("loss_")}
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            optimizer.step()
            if module.average is not None:
                follow(module.average, model, TEACHER.momentum)
            return {name: value.detach() for name, value in terms.items()} | {"gradient": norm}

        return work

    return side


def _step_row(step: Step, note: str, *, bf16: bool = False) -> Row:
    mixed = replace(step, bf16=bf16)
    # no tolerance for bf16: 8 bits of mantissa through some sixty convolutions
    return Row(step_side(mixed, ours=True), step_side(step, ours=False), None if bf16 else 1e-5, note)


_TINY = Step((64, 96), people=3)
_AT_480 = Step((480, 640), people=23, quick=_TINY)
_AT_800 = Step((800, 1216), people=8, quick=_TINY)
_CROWD = {people: Step((480, 640), people=people, batch=1, quick=Step((64, 96), people=people // 4, batch=1)) for people in (400, 20)}

STEPS: dict[str, Row] = {
    "train_step_480": _step_row(_AT_480, "R50, 2 x 480x640, 23 people per image, float32"),
    "train_step_480_bf16": _step_row(_AT_480, "the same with bf16-mixed; the textbook in float32", bf16=True),
    "train_step_480_teacher": Row(
        step_side(replace(_AT_480, teacher=True, quick=replace(_TINY, size=(160, 192), teacher=True)), ours=True),
        step_side(_AT_480, ours=True),
        None,
        "the same with a teacher; baseline: ours without",
    ),
    "train_step_800": _step_row(_AT_800, "R50, 2 x 800x1216, 8 people per image, float32"),
    "crowd_400": Row(
        step_side(_CROWD[400], ours=True), step_side(_CROWD[20], ours=True), None, "R50, 1 x 480x640: 400 people; baseline: ours with 20"
    ),
}
