"""Whole networks against ResNet-50, at the size of photographs on a CPU: a training step of two images, and a forward pass of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from cis_seg.benchmark.rows import Row, Setting, Work
from cis_seg.benchmark.step_rows import Step, step_side
from cis_seg.benchmark.textbook import scene
from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.model.build import build_model
from cis_seg.runtime.machine import keep_freed_memory

SIZE, PEOPLE = (320, 448), 5
QUICK_SIZE = (64, 96)

R50 = ModelConfig()
#: name in ``conf/model`` -> the network; "imagenet" selects frozen norms and frozen first stages, no weights are loaded
NETWORKS = {
    "condinst_mobilenet_v2": ModelConfig(
        backbone=BackboneConfig(name="mobilenet_v2", frozen_stages=3),
        neck_channels=64,
        head_channels=64,
        head_convs=2,
        head_norm_groups=8,
        mask_feat_level=2,
        mask_branch_channels=48,
        mask_branch_convs=2,
        mask_feat_channels=8,
        masks_per_image=32,
    ),
    "condinst_r18_fpn": ModelConfig(backbone=BackboneConfig(depth=18)),
    "condinst_r34_fpn": ModelConfig(backbone=BackboneConfig(depth=34)),
    "condinst_tiny": ModelConfig(
        backbone=BackboneConfig(depth=18, width=16, weights=None),
        neck_channels=32,
        head_channels=32,
        head_convs=2,
        head_norm_groups=4,
        size_ranges=[48, 96, 192, 384],
        mask_feat_level=2,
        mask_branch_channels=24,
        mask_branch_convs=2,
        mask_feat_channels=8,
        mask_out_stride=2,
        masks_per_image=16,
    ),
}


def _forward(setting: Setting, model: ModelConfig) -> Work:
    """The dense predictions of one image, without postprocessing."""
    torch.manual_seed(0)
    network = build_model(model, 1).to(setting.device).eval()
    batch = scene(QUICK_SIZE if setting.quick else SIZE, PEOPLE, device=setting.device)

    @torch.inference_mode()
    def work() -> Mapping[str, Tensor]:
        return {"ltrb": network(network.normalize(batch.pixels, batch.image_sizes)).ltrb}

    return work


def _step(model: ModelConfig) -> Step:
    step = Step(SIZE, PEOPLE, masks_per_image=model.masks_per_image, model=model)
    return replace(step, quick=replace(step, size=QUICK_SIZE))


def _rows(name: str, model: ModelConfig) -> dict[str, Row]:
    size = f"{SIZE[0]}x{SIZE[1]}"
    step = Row(step_side(_step(model), ours=True), step_side(_step(R50), ours=True), None, f"{name}, a step of 2 x {size}; baseline: R50")
    forward = Row(partial(_forward, model=model), partial(_forward, model=R50), None, f"{name}, forward of 1 x {size}; baseline: R50")
    return {f"train_step_{name}": step, f"forward_{name}": forward}


def _freed_memory(name: str) -> Row:
    """The same step on both sides; our process keeps the memory that it frees, as training does on a CPU."""
    step = step_side(_step(NETWORKS[name]), ours=True)

    def ours(setting: Setting) -> Work:
        keep_freed_memory()
        return step(setting)

    return Row(ours, step, 0.0, f"{name}, freed memory kept; baseline: returned to the system")


NETWORK_ROWS: dict[str, Row] = {
    **{key: row for name, model in NETWORKS.items() for key, row in _rows(name, model).items()},
    **{f"freed_memory_{name}": _freed_memory(name) for name in ("condinst_tiny", "condinst_mobilenet_v2")},
}
