"""The typed schema of every config group; nothing below ``build.py`` knows it.

Registered with Hydra's ConfigStore, so an unknown key or a wrong type is refused when the config is composed.
A value that a group file does not set keeps the default written here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from cis_seg.errors import DataError

#: beside metrics.json: what train was told, and what evaluate was told
CONFIG, EVALUATION = "config.yaml", "evaluate.yaml"


@dataclass
class BackboneConfig:
    """A ResNet and what its weights expect."""

    depth: int = 50
    width: int = 64  # channels of stage 2, a multiple of 16; 64 is the published network
    weights: str | None = "imagenet"  # "imagenet" (torchvision's), a file of torchvision's names, or null
    norm: str = "auto"  # frozen | batch | auto: frozen where there are pretrained weights, else trainable
    stride_in_1x1: bool = False  # place of a stage's stride; belongs to the weights
    frozen_stages: int = 2  # stem and stage 2; ignored (0) without pretrained weights
    deform_interval: int = 0  # n: the 3x3 of every n-th bottleneck of stages 3 to 5 is deformable (1 = all); 0 none


@dataclass
class ModelConfig:
    """Sizes of the network; the defaults are BoxInst's."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pixel_mean: list[float] = field(default_factory=lambda: [123.675, 116.28, 103.53])  # in channel_order
    pixel_std: list[float] = field(default_factory=lambda: [58.395, 57.12, 57.375])
    channel_order: str = "rgb"  # rgb | bgr, what the weights expect
    neck: str = "fpn"  # fpn | bifpn (levels 3 to 7, six repeats)
    neck_channels: int = 256  # of every level; the published BiFPN has 160, and so has its head
    head_channels: int = 256
    head_convs: int = 4
    head_norm_groups: int = 32  # groups of the towers' GroupNorm
    size_ranges: list[float] = field(default_factory=lambda: [64, 128, 256, 512])  # px between the levels' max(ltrb)
    mask_feat_level: int = 3  # finest pyramid level of the mask branch: 3 is stride 8, 2 is stride 4
    mask_branch_channels: int = 128
    mask_branch_convs: int = 4
    mask_feat_channels: int = 16
    mask_head_channels: int = 8
    mask_head_layers: int = 3
    mask_out_stride: int = 4
    masks_per_image: int = 64  # budget of mask samples an image; each person has one all the same
    max_mask_samples: int = 500  # never more an image: what a crowd may cost in memory; what is left out is logged


@dataclass
class DataConfig:
    """What every data set has in common; sizes in pixels."""

    root: str = MISSING
    # Files and folders relative to root. Null takes the names of the data set's own layout (the data modules' defaults).
    # In evaluate and figure4, annotations and images, when given, name the scored set and go before val_*.
    annotations: str | None = None
    images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    train_sizes: list[int] = field(default_factory=lambda: [640, 672, 704, 736, 768, 800])  # shorter side, one drawn per image
    train_size_range: list[int] | None = None  # [low, high]: shorter side drawn from the whole range instead
    train_max_size: int = 1333  # longer side at most
    test_size: int = 800
    test_max_size: int = 1333
    flip: float = 0.5
    photometric: str = "none"  # none | light | strong, pixel-level augmentation; colour similarity is computed before it
    keep_empty: bool = False  # train on images without a box too
    score_train: bool = False  # also score the training images (test transform), as train/segm/...
    workers: int = 2
    worker_timeout: float = 300  # seconds that a batch of the workers is waited for before a run says that they hang; 0 waits for ever
    # Share of the images that may be unusable before a run stops: missing or cut short while training, where others take their places;
    # for CrowdHuman also of the records, when its file is read (missing images, broken lines, empty records).
    max_faulty: float = 0.1
    test_batch_size: int = 1


@dataclass
class CocoData(DataConfig):
    """Any COCO instances json."""

    categories: list[str] | None = None  # names to keep, in label order; null keeps all


@dataclass
class CrowdHumanData(DataConfig):
    """CrowdHuman's own layout: ``annotation_*.odgt`` and ``Images/``."""

    boxes: str = "visible"  # visible | full | head
    # Regions to ignore (crowds, statues, reflections, people marked so): background inside them does not train. The reference knows none.
    ignore_regions: bool = True


@dataclass
class CrowdData(CrowdHumanData):
    """The generated crowd, written once into ``root`` in CrowdHuman's layout."""

    ignore_regions: bool = False  # because the figures of this crowd were measured so
    preset: str = "easy"  # easy | real, see the data card
    crowd_seed: int = 0
    num_train: int | None = None  # images; null takes the preset's
    num_val: int | None = None


@dataclass
class LossWeights:
    """Weight of every term; 0 removes it (not computed, not logged)."""

    cls: float = 1.0
    box: float = 1.0
    ctr: float = 1.0
    mask: float = 0.0  # dice with true masks, supervision=mask
    proj: float = 1.0
    pairwise: float = 1.0
    overlap: float = 0.0  # the paper's lambda


@dataclass
class PairwiseConfig:
    """The colour affinity term (BoxInst, section 3.2)."""

    size: int = 3
    dilation: int = 2
    color_thresh: float = 0.3
    warmup_steps: int = 10_000  # 0 starts at full weight, as a fine-tune does
    truncate_colors: bool = True  # colours cut to whole numbers before Lab, as the reference does
    bottom_margin: int = 10  # rows of the original image at its bottom whose colours are not compared


@dataclass
class OverlapConfig:
    """OverlapLoss (the paper's Eq. 2); its weight, the paper's lambda, is loss.weights.overlap."""

    reduction: str = "pairs"  # pairs | masks | sum: over the pairs of an image, over its masks, or not at all
    detach_selected: bool = False  # true: the drawn masks get no gradient


@dataclass
class LossConfig:
    weights: LossWeights = field(default_factory=LossWeights)
    pairwise: PairwiseConfig = field(default_factory=PairwiseConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)


@dataclass
class OptimConfig:
    """The optimiser; ``batch_size`` and ``lr`` are global and never rescaled."""

    name: str = "sgd"  # sgd | adamw
    batch_size: int = 16  # images a step over all devices
    accumulate: int = 1  # micro-batches a step; they share the global batch
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 1000
    warmup_factor: float = 0.001
    decay_factor: float = 0.1
    clip_norm: float | None = None  # gradients' norm at most
    max_bad_steps: int = 20  # in a row whose loss or gradient is no number, which are skipped, before a run stops


@dataclass
class ScheduleConfig:
    max_steps: int = 90_000
    decay_steps: list[int] = field(default_factory=lambda: [60_000, 80_000])
    val_every: int = 5000  # steps between validations
    save_every: int = 1000  # steps between writes of last.ckpt


@dataclass
class EvalConfig:
    """Inference and scoring (AdelaiDet, Inference)."""

    score_threshold: float = 0.05
    nms_threshold: float = 0.6
    max_detections: int = 100
    draw_threshold: float = 0.3
    area: str = "published"  # published | mask: which area sorts into small, medium, large


@dataclass
class PathsConfig:
    runs: str = "runs"
    data: str = "data"  # the generated crowd makes folders of its own here


@dataclass
class RunPathsConfig(PathsConfig):
    run: str = "${paths.runs}/${name}/seed${seed}"  # a run's address, from its name alone


@dataclass
class Config:
    """One training run."""

    defaults: list[Any] = field(default_factory=list)
    name: str = MISSING
    seed: int = 0
    init_from: str | None = None  # checkpoint whose weights start this run
    base_overrides: list[str] | None = None  # of the experiment that makes init_from, if it must be trained first; null: it must be there
    init_classifier: str = "match"  # match: a class takes init_from's row of its name | fresh: the classifier starts anew
    resume: Any = False  # true continues this run's last checkpoint
    supervision: str = "box"
    compile: bool = False  # the mask head; about ten seconds at the first step
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: RunPathsConfig = field(default_factory=RunPathsConfig)
    trainer: Any = None
    logger: Any = None
    callbacks: Any = None


@dataclass
class EvaluateConfig:
    """One scoring of a checkpoint or of a results file."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str | None = None
    predictions: str | None = None
    output: str | None = None
    test_size: int | None = None  # px; null takes the data group's
    max_size: int | None = None
    score_threshold: float | None = None  # on class score x centerness before NMS; null takes eval.score_threshold
    exclusive: bool = False  # also score masks that share no pixel, each to its best: segm_exclusive/AP...
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class PredictConfig:
    """What a checkpoint finds in images and videos; every key stands in ``--help`` (conf/hydra/predict.yaml)."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str = MISSING
    input: str = MISSING  # file, folder or pattern
    output: str = MISSING
    test_size: int | None = None  # px; null takes what the checkpoint was validated at, else 800 and 1333
    max_size: int | None = None
    score_threshold: float = 0.05  # on class score x centerness before NMS
    draw_threshold: float = 0.3  # least score of what is drawn and written as a mask
    nms_threshold: float = 0.6
    max_detections: int = 100
    categories: list[str] | None = None  # names to look for; null takes all the model knows
    exclusive: bool = False  # masks share no pixel
    masks: bool = False  # a black and white PNG a drawn mask
    overlay_size: int = 2048  # px; longer side of an overlay at most
    batch_size: int = 1
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...


@dataclass
class CheckConfig:
    """One check of a data set."""

    defaults: list[Any] = field(default_factory=list)
    output: str = "${paths.runs}/check/${hydra:runtime.choices.data}"  # folder of check.txt, check.json and check.png
    floors: bool = False  # also score perfect boxes and the truth itself as masks: a check of the evaluation
    pixels: bool = True  # decode every image, to find those that are missing, damaged or of another size
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class FigureConfig:
    """One figure of two checkpoints beside the truth; every key stands in ``--help`` (conf/hydra/figure.yaml)."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str = MISSING
    other: str = MISSING
    output: str = MISSING
    images: list[int] | None = None  # ids; null takes the most changed
    count: int = 4
    titles: list[str] = field(default_factory=lambda: ["BoxInst", "+ OverlapLoss"])
    draw_threshold: float = 0.3
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class MasksFromBoxesConfig:
    """Masks for the boxes of a COCO json."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str = MISSING
    boxes: str = MISSING  # COCO json: images, annotations with a bbox each, categories
    images: str = MISSING  # folder that its file names are relative to
    output: str = MISSING  # COCO json with masks; overlay pages get its name with _000.png, _001.png, ...
    test_size: int | None = None  # px; null takes what the checkpoint was validated at, else 800 and 1333
    max_size: int | None = None
    pages: int = 5  # overlay pages at most, six images each, from the beginning; 0 draws none
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...


@dataclass
class SelectConfig:
    """Images of a CrowdHuman split to have outlined, as the paper's test set was made; ``data.annotations`` names the split."""

    defaults: list[Any] = field(default_factory=list)
    output: str = MISSING  # folder of the job
    min_people: int = 3
    max_people: int = 10
    min_iou: float = 0.05  # of two people's boxes, from which on they touch
    touching: float = 0.5  # least share of an image's people who touch another
    iou_boxes: str = "visible"  # visible | full: whose IoU it is
    min_side: int = 400  # px, of the shorter side
    max_regions: int | None = None  # regions to ignore at most; null allows any number
    count: int | None = None  # images to take at most; null takes every fit one
    seed: int = 0  # of the lot; a larger count keeps the images of a smaller one
    photos: str = "list"  # list | link | copy: images.txt alone, or the files too
    checkpoint: str | None = None  # draws the first draft of the masks
    masks: str = "polygons"  # polygons | rle: how that draft is written
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class ExportConfig:
    """One ONNX file of a checkpoint; every key stands in ``--help`` (conf/hydra/export.yaml)."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str = MISSING
    out: str = MISSING  # a new file
    score_threshold: float = 0.05  # on class score x centerness before NMS
    nms_threshold: float = 0.6
    max_detections: int = 100


@dataclass
class BrowseConfig:
    """A look at what a training run would get from a data set."""

    defaults: list[Any] = field(default_factory=list)
    output: str = "${paths.runs}/browse/${hydra:runtime.choices.data}"  # folder of train_*.png and truth_*.png
    num_batches: int = 2
    batch_size: int = 4
    num_truth: int = 12  # images of the scored set, drawn at random
    seed: int = 0  # of the order, the sizes and the flips, as train has it; and of the choice of truth images
    masks: bool = False  # also draw the true masks that supervision=mask trains on
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


def register() -> None:
    """Makes the schemas known to Hydra under the names the config files list first."""
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="check_schema", node=CheckConfig)
    store.store(name="predict_schema", node=PredictConfig)
    store.store(name="masks_from_boxes_schema", node=MasksFromBoxesConfig)
    store.store(name="select_schema", node=SelectConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="browse_schema", node=BrowseConfig)
    store.store(name="figure_schema", node=FigureConfig)
    for name, node in {"coco": CocoData, "crowdhuman": CrowdHumanData, "crowd": CrowdData}.items():
        store.store(group="data", name=f"{name}_schema", node=node)


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as plain containers, fit for a checkpoint that loads without unpickling objects."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_dataclass(cfg: DictConfig) -> Any:
    """The resolved config as the dataclasses of this file."""
    return OmegaConf.to_object(cfg)


def from_plain(plain: dict[str, Any]) -> DictConfig:
    """The config that ``to_plain`` gave, with its schema again; the data set's schema is the one that has its keys."""
    found = set(plain["data"])
    schema = next(kind for kind in (CrowdData, CrowdHumanData, CocoData) if {option.name for option in fields(kind)} == found)
    merged = OmegaConf.merge(OmegaConf.structured(Config), {"data": OmegaConf.structured(schema)}, plain)
    assert isinstance(merged, DictConfig)
    with open_dict(merged):
        del merged["defaults"]  # as Hydra does: a list for itself alone
    return merged


def loss_from_plain(plain: dict[str, Any]) -> LossConfig:
    """The loss part of a checkpoint's config, checked against today's schema."""
    loss: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(LossConfig), plain))
    assert isinstance(loss, LossConfig)
    return loss


def model_from_plain(plain: dict[str, Any]) -> ModelConfig:
    """The model part of a checkpoint's config, checked against today's schema."""
    model: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), plain))
    assert isinstance(model, ModelConfig)
    return model


def read_plain(path: Path) -> dict[str, Any]:
    """A config as train or evaluate wrote it; its keys are those of the version that wrote it.

    Raises:
        DataError: no YAML, or no mapping.
    """
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # the parser's own classes: PyYAML is OmegaConf's library, not ours
        raise DataError("a config cannot be read", where=path, found=error, remedy="leave this run out") from error
    if not isinstance(plain, dict):
        raise DataError("a config is no mapping", where=path, found=type(plain).__name__, remedy="leave this run out")
    return {str(key): value for key, value in plain.items()}
