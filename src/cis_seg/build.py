"""From the config to objects: the only file that knows both the schema and the constructors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from cis_seg.config.schema import (
    CocoData,
    Config,
    CrowdData,
    CrowdHumanData,
    DataConfig,
    EvalConfig,
    LossConfig,
    OptimConfig,
    ScheduleConfig,
)
from cis_seg.data.datamodules import CocoDataModule, CrowdHumanDataModule
from cis_seg.data.instance_datamodule import InstanceDataModule, LoadingOptions
from cis_seg.data.synthetic.files import ensure_crowd
from cis_seg.data.synthetic.spec import PRESETS, CrowdSpec
from cis_seg.errors import ConfigError, DataError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.losses.overlap import REDUCTIONS
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.training.module import CondInstModule
from cis_seg.training.optim import build_schedule, lr_factor, make_optimizer


def build_criterion(cfg: LossConfig, mask_out_stride: int, seed: int = 0) -> Criterion:
    """The loss terms; ``seed`` is that of OverlapLoss's draws.

    Raises:
        ConfigError: no such reduction of OverlapLoss.
    """
    p, reduction = cfg.pairwise, cfg.overlap.reduction
    if reduction not in REDUCTIONS:
        raise ConfigError("there is no such reduction", where="loss.overlap.reduction", expected=" or ".join(REDUCTIONS), found=reduction)
    return Criterion(
        weights=dict(vars(cfg.weights)),
        mask_out_stride=mask_out_stride,
        pairwise_size=p.size,
        pairwise_dilation=p.dilation,
        color_thresh=p.color_thresh,
        pairwise_warmup_steps=p.warmup_steps,
        truncate_colors=p.truncate_colors,
        bottom_margin=p.bottom_margin,
        overlap_reduction=reduction,
        detach_selected=cfg.overlap.detach_selected,
        seed=seed,
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
        worker_timeout=data.worker_timeout,
        max_faulty=data.max_faulty,
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
    return CrowdHumanDataModule(
        root=data.root,
        boxes=data.boxes,  # type: ignore[arg-type]  # checked by the reader
        keep_empty=data.keep_empty,
        ignore_regions=data.ignore_regions,
        **given,
        **options,
    )


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
    if cfg.compile:
        model.compile_mask_head()
    return CondInstModule(
        model=model,
        criterion=build_criterion(cfg.loss, cfg.model.mask_out_stride, cfg.seed),
        postprocess=build_postprocess(cfg.eval),
        optimizer=lambda network: build_optimizer(network, optim=cfg.optim, schedule=cfg.schedule),
        class_names=data.class_names,
        category_ids=data.category_ids,
        masks_per_image=cfg.model.masks_per_image,
        max_mask_samples=cfg.model.max_mask_samples,
        size_ranges=cfg.model.size_ranges,
        eval_area=cfg.eval.area,
        card={
            "config": plain,
            "class_names": list(data.class_names),
            "category_ids": list(data.category_ids),
            "train_images": len(data.train_dataset),
        },
    )
