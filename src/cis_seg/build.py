"""From the config to objects: the data module, and the Lightning module of a run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from cis_seg.config.loss_schema import MixedConfig
from cis_seg.config.schema import CocoData, Config, CrowdData, CrowdHumanData, DataConfig, OptimConfig
from cis_seg.data.datamodules import CocoDataModule, CrowdHumanDataModule
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.synthetic.files import ensure_crowd
from cis_seg.data.synthetic.spec import PRESETS, CrowdSpec
from cis_seg.errors import ConfigError, DataError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.losses.criterion import Criterion
from cis_seg.model.build import build_model
from cis_seg.runtime.machine import FORMATS, memory_format, on_gpu
from cis_seg.training.module import CondInstModule
from cis_seg.training.optim import build_optimizer
from cis_seg.training.resume import data_metadata
from cis_seg.training.teacher import Teacher

log = logging.getLogger(__name__)

LEAST_USED = 0.05  # share of a data set's noisy masks that must reach the least score (results/mixed.md)


def build_data(
    data: DataConfig, *, home: Path, optim: OptimConfig | None = None, seed: int = 0, load_masks: bool = False, optional_masks: bool = False
) -> InstanceDataModule:
    """Return the data module of ``data``; a generated crowd that does not exist yet is drawn first.

    Args:
        data: one of the schemas of the ``data`` group.
        home: ``paths.data``; the crowd creates folders only below it.
        optim: global batch and accumulation; only training needs them.
        seed: seed of the order of the images and of the augmentations.
        load_masks: ground-truth masks with the training targets.
        optional_masks: of these masks, any may be absent or have a score.

    Raises:
        ConfigError: no data set is chosen.
        DataError: the folder of a generated crowd does not exist and is not below ``home``.
    """
    if isinstance(data, CocoData):
        return CocoDataModule(data, optim=optim, seed=seed, load_masks=load_masks, optional_masks=optional_masks)
    if not isinstance(data, CrowdHumanData):
        raise ConfigError("no data set is chosen", where="data", expected="data=crowd, data=coco, data=crowdhuman or data=cis")
    if isinstance(data, CrowdData):
        _draw_crowd(Path(data.root).expanduser(), data, home)
    return CrowdHumanDataModule(data, optim=optim, seed=seed, load_masks=load_masks, optional_masks=optional_masks)


def build_training_data(cfg: Config) -> InstanceDataModule:
    """Return the data module of a training run, with the masks that its supervision needs; raises what ``build_data`` does."""
    masks, optional = cfg.supervision != "box", cfg.supervision == "mixed"
    return build_data(cfg.data, home=Path(cfg.paths.data), optim=cfg.optim, seed=cfg.seed, load_masks=masks, optional_masks=optional)


def _draw_crowd(root: Path, data: CrowdData, home: Path) -> None:
    """Draw the crowd into ``root``, unless a mistyped root would be filled with a thousand images."""
    if not root.is_dir() and home.resolve() not in root.resolve().parents:
        raise DataError(
            "there is no such data folder",
            where=root,
            expected=f"an existing folder, or one below paths.data ({home})",
            remedy=f"create it if the generated crowd belongs there: mkdir -p {root}",
        )
    ensure_crowd(root, crowd_spec(data))


def crowd_spec(data: CrowdData) -> CrowdSpec:
    """Return the preset with the config's sizes and seed."""
    counts = {"train_images": data.num_train, "val_images": data.num_val}
    return replace(PRESETS[data.preset], seed=data.crowd_seed, **{k: v for k, v in counts.items() if v is not None})


def build_module(cfg: Config, plain: dict[str, Any], data: InstanceDataModule) -> CondInstModule:
    """Return model, losses and optimiser for the classes of ``data``.

    Args:
        cfg: the run.
        plain: the same as plain containers, for the checkpoints' metadata.
        data: after ``setup``.
    """
    model, loss, options = build_model(cfg.model, len(data.class_names)), cfg.loss, cfg.model
    order, _ = memory_format(cfg.memory_format, channels=options.neck_channels, gpu=on_gpu(cfg.trainer))
    model.use_memory_format(FORMATS[order])
    if cfg.compile:
        model.compile_mask_head()
    return CondInstModule(
        model=model,
        criterion=Criterion(
            vars(loss.weights), options.mask_out_stride, loss.pairwise, loss.overlap, cfg.teacher, _mixed(cfg, data), seed=cfg.seed
        ),
        postprocess=Postprocess(cfg.eval, masks=cfg.eval),
        optimizer=lambda network: build_optimizer(network, cfg.optim, cfg.schedule),
        class_names=data.class_names,
        category_ids=data.category_ids,
        masks_per_image=options.masks_per_image,
        max_mask_samples=options.max_mask_samples,
        size_ranges=options.size_ranges,
        eval_area=cfg.eval.area,
        teacher=Teacher(cfg.teacher, options) if loss.weights.teacher else None,
        momentum=cfg.teacher.momentum if loss.weights.teacher else cfg.ema,
        use_average=cfg.ema > 0,
        metadata={"config": plain, **data_metadata(data)},
    )


def _mixed(cfg: Config, data: InstanceDataModule) -> MixedConfig:
    """Return the run's options of mixed supervision, with a least score of 1 and a warning if the noisy masks are too bad to be used.

    Scores are estimates: where few masks reach the least score, many of these few do by mistake, and training on them can end below boxes
    alone.
    """
    scores = data.train_dataset.records.mask_scores if cfg.supervision == "mixed" else None
    if scores is None:
        return cfg.mixed
    least, noisy = cfg.mixed.least_score, scores[(scores > 0) & (scores < 1)]
    used = int((noisy >= least).sum())
    if not 0 < used < LEAST_USED * len(noisy):
        return cfg.mixed
    log.warning(
        "%s: %d of %d masks with a score below 1 reach mixed.least_score=%g, less than a twentieth. Masks from so unreliable a source "
        "can be worse than none, so the boxes are used instead; lower mixed.least_score to use the masks all the same",
        *(data.train_dataset.source, used, len(noisy), least),
    )
    return replace(cfg.mixed, least_score=1.0)
