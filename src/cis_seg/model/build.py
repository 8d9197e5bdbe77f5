"""Builds the network from its config and loads pretrained weights."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch.hub import get_dir
from torchvision.models import WeightsEnum, get_model_weights, list_models

from cis_seg.checkpoints import load_file
from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.model.backbone import Backbone
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.model.fcos_head import FCOSHead
from cis_seg.model.mask_head import DynamicMaskHead, MaskBranch
from cis_seg.model.mobilenet import MobileNetV2
from cis_seg.model.necks import FPN, BiFPN
from cis_seg.model.resnet import ResNet

log = logging.getLogger(__name__)


def build_model(cfg: ModelConfig, num_classes: int) -> CondInst:
    """Build the network with random weights; ``load_backbone`` loads pretrained ones."""
    backbone = _backbone(cfg.backbone)
    neck = _neck(cfg, backbone.out_channels)
    mask_head = DynamicMaskHead(
        in_channels=cfg.mask_feat_channels,
        channels=cfg.mask_head_channels,
        num_layers=cfg.mask_head_layers,
        feat_stride=2**cfg.mask_feat_level,
        out_stride=cfg.mask_out_stride,
    )
    head = FCOSHead(
        cfg.neck_channels,
        channels=cfg.head_channels,
        num_convs=cfg.head_convs,
        num_classes=num_classes,
        num_params=mask_head.num_params,
        norm_groups=cfg.head_norm_groups,
    )
    mask_branch = MaskBranch(
        cfg.neck_channels,
        num_levels=LEVELS[2] - cfg.mask_feat_level + 1,
        channels=cfg.mask_branch_channels,
        num_convs=cfg.mask_branch_convs,
        out_channels=cfg.mask_feat_channels,
    )
    return CondInst(
        backbone=backbone,
        neck=neck,
        head=head,
        mask_branch=mask_branch,
        mask_head=mask_head,
        pixel_mean=cfg.pixel_mean,
        pixel_std=cfg.pixel_std,
        channel_order=cfg.channel_order,
        finest_mask_level=cfg.mask_feat_level,
    )


def _neck(cfg: ModelConfig, in_channels: dict[int, int]) -> FPN | BiFPN:
    if cfg.neck == "fpn":
        return FPN(in_channels, channels=cfg.neck_channels, finest=cfg.mask_feat_level)
    if cfg.neck != "bifpn":
        raise ConfigError("unknown neck", where="model.neck", expected="fpn or bifpn", found=cfg.neck)
    if cfg.mask_feat_level < LEVELS[0]:
        raise ConfigError(
            "the mask branch reads a level that a BiFPN does not have",
            where="model.mask_feat_level",
            expected=f"{LEVELS[0]} (stride 8), a BiFPN's finest level",
            found=cfg.mask_feat_level,
            remedy="set model.mask_feat_level=3, or model.neck=fpn",
        )
    return BiFPN(in_channels, channels=cfg.neck_channels)


def backbone_norm(cfg: BackboneConfig) -> str:
    """Resolve ``auto``: frozen with pretrained weights, batch without, since a frozen norm cannot adapt to random weights."""
    return cfg.norm if cfg.norm != "auto" else ("frozen" if cfg.weights else "batch")


def _backbone(cfg: BackboneConfig) -> Backbone:
    norm = backbone_norm(cfg)
    if norm not in ("frozen", "batch"):
        raise ConfigError("unknown norm", where="model.backbone.norm", expected="auto, frozen or batch", found=cfg.norm)
    frozen_norm, frozen_stages = norm == "frozen", cfg.frozen_stages if cfg.weights else 0
    if cfg.name == "mobilenet_v2":
        return MobileNetV2(frozen_norm=frozen_norm, frozen_stages=frozen_stages)
    if cfg.name != "resnet":
        raise ConfigError("unknown backbone", where="model.backbone.name", expected="resnet or mobilenet_v2", found=cfg.name)
    return ResNet(
        depth=cfg.depth,
        width=cfg.width,
        frozen_norm=frozen_norm,
        stride_in_1x1=cfg.stride_in_1x1,
        frozen_stages=frozen_stages,
        deform_interval=cfg.deform_interval,
    )


def load_backbone(model: CondInst, cfg: BackboneConfig) -> None:
    """Load the pretrained weights ``cfg.weights`` into the backbone; do nothing if it is null.

    Raises:
        CheckpointError: the weights cannot be read or downloaded; the message names the file and how to get it.
    """
    if not cfg.weights:
        log.info("backbone: no pretrained weights, so its norm and all its stages are trained")
        return
    state = _imagenet_state(cfg) if cfg.weights == "imagenet" else load_file(Path(cfg.weights))
    try:
        model.backbone.load_pretrained(state)
    except ValueError as error:
        resnet = cfg.name == "resnet"
        network = f"ResNet-{cfg.depth} of width {cfg.width}" if resnet else cfg.name
        remedy = "set model.backbone.depth and width to the file's" if resnet else "use such a file or model.backbone.weights=imagenet"
        raise CheckpointError(
            f"the pretrained weights do not fit a {network}",
            where=cfg.weights,
            expected=f"the tensors of torchvision's {torchvision_name(cfg)}",
            found=f"{len(state)} tensors; {error}",
            remedy=f"{remedy}, or train without: model.backbone.weights=null",
        ) from error


def torchvision_name(cfg: BackboneConfig) -> str:
    """Return torchvision's name of the network whose tensors the backbone has, such as ``resnet50``."""
    return f"resnet{cfg.depth}" if cfg.name == "resnet" else cfg.name


def imagenet_file(cfg: BackboneConfig) -> Path:
    """Return the path of torchvision's ImageNet weights in its download cache.

    Raises:
        ConfigError: torchvision has none for this network.
    """
    if torchvision_name(cfg) not in list_models():
        remedy = "train without them: model.backbone.weights=null"
        raise ConfigError(f"there are no ImageNet weights of {torchvision_name(cfg)}", where="model.backbone.weights", remedy=remedy)
    name: str = os.path.basename(_imagenet_weights(cfg).url)
    return Path(get_dir()) / "checkpoints" / name


def _imagenet_weights(cfg: BackboneConfig) -> WeightsEnum:
    return get_model_weights(torchvision_name(cfg))["IMAGENET1K_V1"]


def _imagenet_state(cfg: BackboneConfig) -> dict[str, torch.Tensor]:
    target = imagenet_file(cfg)
    if target.is_file():
        return load_file(target)
    weights = _imagenet_weights(cfg)
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, or an incomplete download
        raise CheckpointError(
            f"the ImageNet weights of {torchvision_name(cfg)} are not available",
            where=target,
            expected=f"the file {target.name}, or a network to download it from {weights.url}",
            found=str(error),
            remedy="put the file there, name your own with model.backbone.weights=FILE, or train without: model.backbone.weights=null",
        ) from error
    return state
