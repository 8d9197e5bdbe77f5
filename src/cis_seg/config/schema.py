"""The options of a training run: name, type, default, meaning and allowed values, each written once.

These dataclasses are Hydra's schema, so an unknown key or a wrong type is refused when the config is composed. Validation
(``config.validation``), ``--help`` (``config.commands``) and the objects that a node configures all read them. The losses' options are in
``config.loss_schema``, those of other commands in ``config.command_schema``.
They are not frozen, because OmegaConf makes a frozen dataclass read-only, and Hydra could not override it; nothing assigns to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cis_seg.config.loss_schema import LossConfig, MixedConfig, TeacherConfig
from cis_seg.config.rules import (
    BATCH,
    CHANNELS,
    CHECKED_LATER,
    COUNT,
    EXIF,
    LAYERS,
    MAX_WORKERS,
    NAMES,
    RUN_NAME,
    SEED,
    SHARE,
    SIDE,
    STEPS,
    STEPS_OR_NONE,
    TILES,
    WRITTEN,
    Rule,
    above,
    below,
    between,
    each,
    multiple_of,
    one_of,
    option,
)

#: elsewhere oneDNN's weight gradient of a strided 1x1 convolution writes beyond its buffer (torch 2.14, channels last)
WIDTHS = 16


@dataclass
class BackboneConfig:
    """The network that reads the image, and what its weights expect."""

    name: str = option("resnet", "family of the network; only a resnet has a depth and a width", one_of("resnet", "mobilenet_v2"))
    depth: int = option(50, "layers of the ResNet", one_of(10, 18, 34, 50, 101))
    width: int = option(64, "channels of stage 2; 64 is the published network", multiple_of(WIDTHS, 512))
    weights: str | None = option(
        "imagenet", "imagenet (torchvision's), a file with torchvision's tensor names, or null: random weights", path=CHECKED_LATER
    )
    norm: str = option("auto", "BatchNorm; auto: frozen with pretrained weights, otherwise trained", one_of("auto", "frozen", "batch"))
    stride_in_1x1: bool = option(False, "stride in a stage's first 1x1 convolution instead of its 3x3; a property of the weights")
    frozen_stages: int = option(2, "stages that are not trained, from the stem on; ignored without pretrained weights", between(0, 5))
    deform_interval: int = option(0, "deformable 3x3 in every n-th bottleneck of stages 3 to 5; 0: none", between(0, 23))


@dataclass
class ModelConfig:
    """Sizes of the network; the defaults are BoxInst's."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pixel_mean: list[float] = option([123.675, 116.28, 103.53], "mean of the pixels, in channel_order", each(between(-1e6, 1e6), 3))
    pixel_std: list[float] = option([58.395, 57.12, 57.375], "standard deviation of the pixels, in channel_order", each(above(0, 1e6), 3))
    channel_order: str = option("rgb", "channel order of the pixels; must match the pretrained weights", one_of("rgb", "bgr"))
    neck: str = option("fpn", "feature pyramid; bifpn has six repeats over levels 3 to 7", one_of("fpn", "bifpn"))
    neck_channels: int = option(256, "channels of each level; the published BiFPN and its head have 160", CHANNELS)
    head_channels: int = option(256, "channels of the detection head", CHANNELS)
    head_convs: int = option(4, "convolutions of each tower of the head", LAYERS)
    head_norm_groups: int = option(32, "groups of the towers' GroupNorm", CHANNELS)
    size_ranges: list[float] = option([64, 128, 256, 512], "limits between the levels, in pixels of max(ltrb)", each(above(0, 1e6), 4))
    mask_feat_level: int = option(3, "finest pyramid level of the mask branch: 3 is stride 8, 2 is stride 4", one_of(2, 3))
    mask_branch_channels: int = option(128, "channels of the mask branch", CHANNELS)
    mask_branch_convs: int = option(4, "convolutions of the mask branch", between(0, 64))
    mask_feat_channels: int = option(16, "channels of the mask features", between(1, 256))
    mask_head_channels: int = option(8, "channels of the dynamic mask head", between(1, 64))
    mask_head_layers: int = option(3, "layers of the dynamic mask head", between(2, 16))
    mask_out_stride: int = option(4, "stride of the mask logits in input pixels", one_of(1, 2, 4, 8))
    masks_per_image: int = option(64, "mask samples per image; each instance has at least one", COUNT)
    max_mask_samples: int = option(500, "hard cap per image, however many instances it has; samples beyond it are logged", COUNT)


@dataclass
class DataConfig:
    """Options that all data sets share; sizes in pixels.

    A null file or folder takes the name in the data set's own layout (``data.datamodules``). In ``evaluate`` and ``figure4``,
    ``annotations`` and ``images`` name the scored set and take precedence over ``val_annotations`` and ``val_images``.
    """

    root: str = option(MISSING, "the folder of the data set; other paths are relative to it", path=CHECKED_LATER)
    annotations: str | None = option(None, "annotation file; null: the data set's own name", path=CHECKED_LATER)
    images: str | None = option(None, "folder of the images; null: the data set's own name", path=CHECKED_LATER)
    val_annotations: str | None = option(None, "annotation file of the scored set; null: the data set's own name", path=CHECKED_LATER)
    val_images: str | None = option(None, "folder of the scored images; null: the data set's own name", path=CHECKED_LATER)
    train_sizes: list[int] = option([640, 672, 704, 736, 768, 800], "shorter sides for training, one drawn per image", each(SIDE))
    train_size_range: list[int] | None = option(None, "[low,high]: draw the shorter side from this range instead", each(SIDE, 2))
    train_max_size: int = option(1333, "maximum length of the longer side in training", SIDE)
    half_size_steps: int = option(
        0, "first steps of the run, whose images have half the size and a quarter of the pixels (progressive resizing)", between(0, 10**7)
    )
    test_size: int = option(800, "shorter side in scoring", SIDE)
    test_max_size: int = option(1333, "maximum length of the longer side in scoring", SIDE)
    flip: float = option(0.5, "probability of a horizontal flip", SHARE)
    photometric: str = option(
        "none", "pixel-level augmentation; the colour similarity is computed before it", one_of("none", "light", "strong")
    )
    exif: str = option(
        "ignore",
        "EXIF orientation: ignore (boxes on the stored pixels) or apply (boxes on the photo as viewers show it)",
        EXIF,
    )
    keep_empty: bool = option(False, "train on images without a box too")
    score_train: bool = option(False, "also score the training images, as train/segm/...")
    workers: int = option(2, "processes that load images; 0: load in the main process", between(0, MAX_WORKERS))
    worker_timeout: float = option(
        300, "seconds to wait for a batch before reporting that the workers hang; 0: no limit", between(0, 10**6)
    )
    max_faulty: float = option(0.1, "fraction of unreadable training images (CrowdHuman: also records) above which a run stops", SHARE)
    test_batch_size: int = option(1, "images per scoring batch", BATCH)


@dataclass
class CocoData(DataConfig):
    """Any COCO instances json."""

    categories: list[str] | None = option(None, "names of the categories to keep, in label order; null: all", NAMES)


@dataclass
class CrowdHumanData(DataConfig):
    """CrowdHuman's own layout: ``annotation_*.odgt`` and ``Images/``."""

    boxes: str = option("visible", "boxes to train on, and to score if the scored set is an odgt file", one_of("visible", "full", "head"))
    ignore_regions: bool = option(True, "exclude background inside ignore regions from the loss; AdelaiDet does not do this")


@dataclass
class CrowdData(CrowdHumanData):
    """The generated crowd, written once into ``root`` in CrowdHuman's layout."""

    ignore_regions: bool = option(False, "exclude background inside ignore regions from the loss; the published results did not use this")
    preset: str = option("easy", "appearance of the crowd, described in its data card", one_of("easy", "real"))
    crowd_seed: int = option(0, "seed of the generator", between(0, 2**31))
    num_train: int | None = option(None, "training images; null: the preset's number", COUNT)
    num_val: int | None = option(None, "validation images; null: the preset's number", COUNT)


#: data set -> its schema
DATA_SCHEMAS: dict[str, type[DataConfig]] = {"coco": CocoData, "crowdhuman": CrowdHumanData, "crowd": CrowdData}


@dataclass
class OptimConfig:
    """The optimiser; ``batch_size`` and ``lr`` are global and never rescaled."""

    name: str = option("sgd", "the optimiser", one_of("sgd", "adamw"))
    batch_size: int = option(16, "images per step over all devices", BATCH)
    accumulate: int = option(1, "micro-batches per step; they share the global batch", BATCH)
    lr: float = option(0.01, "learning rate of the global batch", between(0, 100))
    momentum: float = option(0.9, "SGD's momentum, AdamW's first beta", below(0, 1))
    weight_decay: float = option(1e-4, "weight decay, not applied to norm layers", between(0, 10))
    warmup_steps: int = option(1000, "steps of the linear warm-up", STEPS_OR_NONE)
    warmup_factor: float = option(0.001, "factor of the learning rate at the first step", SHARE)
    decay_factor: float = option(0.1, "factor of the learning rate at each of schedule.decay_steps", SHARE)
    clip_norm: float | None = option(None, "maximum gradient norm; null: none", above(0, 1e9))
    max_bad_steps: int = option(20, "consecutive steps with a non-finite loss or gradient, all skipped, that stop a run", COUNT)


@dataclass
class ScheduleConfig:
    """The length of a run and its intervals, in steps."""

    max_steps: int = option(90_000, "steps of the run", STEPS)
    decay_steps: list[int] = option([60_000, 80_000], "steps at which the learning rate decays", each(STEPS, empty=True))
    val_every: int = option(5000, "steps between validations", STEPS)
    save_every: int = option(1000, "steps between writes of last.ckpt", STEPS)


@dataclass
class DetectionConfig:
    """Selection of the detections (AdelaiDet, Inference)."""

    score_threshold: float = option(0.05, "minimum class score x centerness, before NMS", SHARE)
    nms_threshold: float = option(0.6, "IoU above which the lower-scored of two boxes of a class is removed", SHARE)
    max_detections: int = option(100, "maximum number of instances per image", COUNT)


@dataclass
class MaskConfig:
    """Changes of the network's masks; the published scores use none."""

    cut_to_box: bool = option(False, "cut each mask to its box")
    refine: bool = option(False, "snap mask outlines to colour edges inside the box (mean field); also cuts to the box")
    flip: bool = option(False, "average masks with those of the mirrored image, which the network sees too")


@dataclass
class InferenceConfig(MaskConfig):
    """What ``inference=best`` switches on: changes of masks and scores that need no training."""

    rescore: bool = option(False, "scores become sqrt(score x mean mask score inside the mask), so that unclear masks come later")


@dataclass
class TileConfig:
    """Prediction of an image in overlapping tiles and as a whole."""

    tiles: str | None = option(
        None, "also predict overlapping tiles: auto (in images much larger than the network's input) or WIDTHxHEIGHT in pixels", TILES
    )
    overlap: float = option(0.2, "minimum overlap of neighbouring tiles, as a fraction of their sides", between(0, 0.8))


@dataclass
class EvalConfig(InferenceConfig, DetectionConfig):
    """Inference and scoring."""

    draw_threshold: float = option(0.3, "minimum score of drawn instances", SHARE)
    area: str = option(
        "published", "areas for APs, APm and APl: the file's own, or those of the ground-truth masks", one_of("published", "mask")
    )


@dataclass
class PathsConfig:
    """Folders, relative to the working directory."""

    runs: str = option("runs", "folder of the runs", path=WRITTEN)
    data: str = option("data", "folder of the generated data sets", path=WRITTEN)


@dataclass
class RunPathsConfig(PathsConfig):
    """Folders of a run, relative to the working directory."""

    run: str = option("${paths.runs}/${name}/seed${seed}", "the run's own folder", path=WRITTEN)


@dataclass
class Config:
    """A training run."""

    defaults: list[Any] = field(default_factory=list)
    name: str = option(MISSING, "name of the run, the first part of its folder", RUN_NAME)
    seed: int = option(0, "seed of every random choice, the second part of the folder", SEED)
    init_from: str | None = option(None, "checkpoint whose weights start the run (fine-tuning)", path=CHECKED_LATER)
    base_overrides: list[str] | None = option(
        None, "overrides of the experiment that trains init_from if the file is missing; null: the file must exist"
    )
    init_classifier: str = option(
        "match", "classifier of a fine-tune: rows of init_from with the same class name, or random weights", one_of("match", "fresh")
    )
    resume: Any = option(
        False,
        "true: continue from the run's last checkpoint; an existing run is never overwritten",
        Rule("true, false or a checkpoint", lambda value: isinstance(value, bool | str) and value not in ("yes", "no", "auto", "last")),
        CHECKED_LATER,
    )
    supervision: str = option(
        "box",
        "train from boxes alone, from ground-truth masks (the upper bound), or from what each annotation has",
        one_of("box", "mask", "mixed"),
    )
    compile: bool = option(False, "compile the mask head, which takes about ten seconds at the first step")
    memory_format: str = option(
        "auto",
        "order of memory in training; auto: the faster one for processor and network",
        one_of("auto", "channels_last", "contiguous"),
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)
    ema: float = option(
        0.0, "momentum of a running average of the weights, which is scored and saved in their place; 0: no average", below(0, 1)
    )
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: RunPathsConfig = field(default_factory=RunPathsConfig)
    trainer: Any = None
    logger: Any = None
    callbacks: Any = None
