"""From the config to objects: the only file that knows both the schema and the constructors."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.hub import get_dir
from torch.optim import Optimizer
from torchvision.models import get_model_weights, list_models

from cis_seg.checkpoint import load_file
from cis_seg.config import (
    BackboneConfig,
    CocoData,
    Config,
    CrowdData,
    CrowdHumanData,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
)
from cis_seg.data.crowd_files import ensure_crowd
from cis_seg.data.crowd_spec import PRESETS, CrowdSpec
from cis_seg.data.datamodules import CocoDataModule, CrowdHumanDataModule, InstanceDataModule, LoadingOptions
from cis_seg.errors import CheckpointError, ConfigError, DataError
from cis_seg.losses.criterion import Criterion
from cis_seg.model.backbone import ResNet, load_pretrained
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.model.dynamic_mask_head import DynamicMaskHead
from cis_seg.model.fcos_head import FCOSHead
from cis_seg.model.fpn import FPN
from cis_seg.model.mask_branch import MaskBranch
from cis_seg.module import CondInstModule
from cis_seg.optim import build_schedule, lr_factor, make_optimizer
from cis_seg.postprocess import Postprocess

log = logging.getLogger(__name__)


def build_model(cfg: ModelConfig, num_classes: int) -> CondInst:
    """The network with fresh weights; ``load_backbone`` fills in pretrained ones."""
    backbone = _backbone(cfg.backbone)
    neck = FPN(backbone.out_channels, channels=cfg.neck_channels, finest=cfg.mask_feat_level)
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
    model = CondInst(
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
    # the same numbers in another order of memory: convolutions are faster that way on CPUs and on tensor cores
    return model.to(memory_format=torch.channels_last)


def _backbone(cfg: BackboneConfig) -> ResNet:
    """What belongs to the weights follows from whether there are any: a frozen norm without them cannot learn."""
    norm = cfg.norm if cfg.norm != "auto" else ("frozen" if cfg.weights else "batch")
    if norm not in ("frozen", "batch"):
        raise ConfigError("unknown norm", where="model.backbone.norm", expected="auto, frozen or batch", found=cfg.norm)
    if not cfg.weights:
        log.info("backbone: no pretrained weights, so its %s norm and all its stages are trained", norm)
    return ResNet(
        depth=cfg.depth,
        width=cfg.width,
        frozen_norm=norm == "frozen",
        stride_in_1x1=cfg.stride_in_1x1,
        frozen_stages=cfg.frozen_stages if cfg.weights else 0,
    )


def load_backbone(model: CondInst, cfg: BackboneConfig) -> None:
    """Fills in the pretrained weights that ``cfg.weights`` names; nothing to do where it is null.

    Raises:
        CheckpointError: the weights cannot be had; the message names the file and how to get it.
    """
    if not cfg.weights:
        return
    state = _imagenet_state(cfg.depth) if cfg.weights == "imagenet" else load_file(Path(cfg.weights))
    try:
        load_pretrained(model.backbone, state)
    except RuntimeError as error:
        raise CheckpointError(
            f"the pretrained weights do not fit a ResNet-{cfg.depth} of width {cfg.width}",
            where=cfg.weights,
            expected="the tensors of torchvision's ResNet of that depth",
            found=" ".join(str(error).split())[:300],
            remedy="set model.backbone.depth and width to the file's, or train without: model.backbone.weights=null",
        ) from error


def _imagenet_state(depth: int) -> dict[str, torch.Tensor]:
    if f"resnet{depth}" not in list_models():
        remedy = "train without them: model.backbone.weights=null"
        raise ConfigError(f"there are no ImageNet weights of ResNet-{depth}", where="model.backbone.weights", remedy=remedy)
    weights = get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"]
    target = Path(get_dir()) / "checkpoints" / os.path.basename(weights.url)
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a download that was cut short
        raise CheckpointError(
            f"the ImageNet weights of ResNet-{depth} cannot be had",
            where=target,
            expected=f"the file {target.name}, or a network to download it from {weights.url}",
            found=str(error),
            remedy="put the file there, name your own with model.backbone.weights=FILE, or train without: model.backbone.weights=null",
        ) from error
    return state


def build_criterion(cfg: LossConfig, mask_out_stride: int) -> Criterion:
    """The loss terms; OverlapLoss has its weight in the schema and is not written yet."""
    if cfg.weights.overlap:
        raise ConfigError("OverlapLoss is not part of this version", where="loss.weights.overlap", expected=0, found=cfg.weights.overlap)
    p = cfg.pairwise
    return Criterion(
        weights=dict(vars(cfg.weights)),
        mask_out_stride=mask_out_stride,
        pairwise_size=p.size,
        pairwise_dilation=p.dilation,
        color_thresh=p.color_thresh,
        pairwise_warmup_steps=p.warmup_steps,
        truncate_colors=p.truncate_colors,
        bottom_margin=p.bottom_margin,
    )


def build_postprocess(cfg: EvalConfig) -> Postprocess:
    """Inference settings."""
    return Postprocess(score_threshold=cfg.score_threshold, nms_threshold=cfg.nms_threshold, max_detections=cfg.max_detections)


def build_optimizer(model: CondInst, *, optim: OptimConfig, schedule: ScheduleConfig) -> tuple[Optimizer, Any]:
    """The optimiser and its per-step schedule for ``model``."""
    optimizer = make_optimizer(model, name=optim.name, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    factor = lr_factor(
        warmup_steps=optim.warmup_steps,
        warmup_factor=optim.warmup_factor,
        decay_steps=schedule.decay_steps,
        decay_factor=optim.decay_factor,
    )
    return optimizer, build_schedule(optimizer, factor)


def build_data(
    data: DataConfig, *, home: Path, optim: OptimConfig | None = None, seed: int = 0, load_masks: bool = False
) -> InstanceDataModule:
    """The data module of ``data``; the generated crowd is drawn first if it is not there yet.

    Args:
        data: one of the schemas of the ``data`` group.
        home: ``paths.data``; the crowd makes folders of its own only there.
        optim: global batch and accumulation; only training needs them.
        seed: of the order of the images and of the augmentations.
        load_masks: true masks with the training targets.
    """
    optim = optim or OptimConfig()
    options = LoadingOptions(
        train_sizes=data.train_size_range or data.train_sizes,
        train_size_sampling="range" if data.train_size_range else "choice",
        train_max_size=data.train_max_size,
        test_size=data.test_size,
        test_max_size=data.test_max_size,
        flip=data.flip,
        photometric=data.photometric,  # type: ignore[typeddict-item]  # checked by the transform
        batch_size=optim.batch_size,
        accumulate=optim.accumulate,
        test_batch_size=data.test_batch_size,
        workers=data.workers,
        seed=seed,
        load_masks=load_masks,
        score_train=data.score_train,
    )
    files = {
        "annotations": data.annotations,
        "images": data.images,
        "annotations_val": data.val_annotations,
        "images_val": data.val_images,
    }
    given = {name: path for name, path in files.items() if path is not None}
    if isinstance(data, CocoData):
        return CocoDataModule(root=data.root, categories=data.categories, keep_empty=data.keep_empty, **given, **options)
    if not isinstance(data, CrowdHumanData):
        raise ConfigError("no data set is chosen", where="data", expected="data=crowd, data=coco, data=crowdhuman or data=cis")
    if isinstance(data, CrowdData):
        _draw_crowd(Path(data.root).expanduser(), data, home)
    return CrowdHumanDataModule(root=data.root, boxes=data.boxes, keep_empty=data.keep_empty, **given, **options)  # type: ignore[arg-type]


def _draw_crowd(root: Path, data: CrowdData, home: Path) -> None:
    """Draws the crowd into ``root``; a mistyped root must not be filled with a thousand images."""
    if not root.is_dir() and home.resolve() not in root.resolve().parents:
        raise DataError(
            "there is no such data folder",
            where=root,
            expected=f"an existing folder, or one below paths.data ({home})",
            remedy=f"make it, if that is where the generated crowd belongs: mkdir -p {root}",
        )
    ensure_crowd(root, crowd_spec(data))


def crowd_spec(data: CrowdData) -> CrowdSpec:
    """The preset with the sizes and the seed that the config gives.

    Raises:
        ConfigError: no such preset.
    """
    if data.preset not in PRESETS:
        raise ConfigError("there is no such crowd", where="data.preset", expected=" or ".join(PRESETS), found=data.preset)
    counts = {"train_images": data.num_train, "val_images": data.num_val}
    return replace(PRESETS[data.preset], seed=data.crowd_seed, **{k: v for k, v in counts.items() if v is not None})


def build_module(cfg: Config, plain: dict[str, Any], data: InstanceDataModule) -> CondInstModule:
    """Model, losses and optimiser for the classes of ``data``."""
    model = build_model(cfg.model, len(data.class_names))
    return CondInstModule(
        model=model,
        criterion=build_criterion(cfg.loss, cfg.model.mask_out_stride),
        postprocess=build_postprocess(cfg.eval),
        optimizer=lambda network: build_optimizer(network, optim=cfg.optim, schedule=cfg.schedule),
        class_names=data.class_names,
        category_ids=data.category_ids,
        masks_per_image=cfg.model.masks_per_image,
        size_ranges=cfg.model.size_ranges,
        eval_area=cfg.eval.area,
        card={"config": plain, "class_names": list(data.class_names), "category_ids": list(data.category_ids)},
    )
