"""A small network under the names of AdelaiDet, as its checkpoints hold them."""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.model.adelaidet.weights import BIFPN_BODY, FPN_BODY, SCALES, their_names
from cis_seg.model.build import build_model


def small_config(neck: str = "fpn", *, deform_interval: int = 0, depth: int = 10) -> ModelConfig:
    """The smallest network that a checkpoint can show: three dynamic layers of 8 channels and 32 groups are not in its shapes."""
    return ModelConfig(
        backbone=BackboneConfig(depth=depth, width=16, weights=None, norm="frozen", stride_in_1x1=True, deform_interval=deform_interval),
        pixel_mean=[103.53, 116.28, 123.675],
        pixel_std=[1.0, 1.0, 1.0],
        channel_order="bgr",
        neck=neck,
        neck_channels=16,
        head_channels=32,
        head_convs=2,
        mask_branch_channels=8,
        mask_branch_convs=1,
        mask_feat_channels=4,
    )


def small_state(config: ModelConfig, num_classes: int = 80) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of ``CondInst`` with random numbers, and the same as AdelaiDet would write it."""
    generator = torch.Generator().manual_seed(0)
    own = {
        name: torch.rand(value.shape, generator=generator) + 0.5 for name, value in build_model(config, num_classes).state_dict().items()
    }
    own = {name: value.long() if name.endswith("num_batches_tracked") else value for name, value in own.items()}
    own |= {"pixel_mean": torch.tensor(config.pixel_mean).view(1, 3, 1, 1), "pixel_std": torch.ones(1, 3, 1, 1)}
    body = BIFPN_BODY if config.neck == "bifpn" else FPN_BODY
    theirs: dict[str, Tensor] = {
        "mask_head._iter": torch.tensor([90_000.0]),
        "mask_head.sizes_of_interest": torch.tensor([64, 128, 256, 512, 1024]),
    }
    for name, value in own.items():
        if name not in ("pixel_mean", "pixel_std"):
            names = their_names(name, body)
            theirs |= dict(zip(names, value.split(1) if name == SCALES else [value], strict=True))
    return own, theirs
