"""The commands: the config file, the options and the function of each. The options of ``train`` are in ``config.schema``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cis_seg.config.rules import (
    ANY_COUNT,
    BATCH,
    CHECKPOINT,
    COUNT,
    EXIF,
    MAX_SIDE,
    NAMES,
    SEED,
    SHARE,
    SIDE,
    TEXT,
    WRITTEN,
    above,
    between,
    each,
    one_of,
    option,
)
from cis_seg.config.schema import (
    DATA_SCHEMAS,
    Config,
    DataConfig,
    DetectionConfig,
    EvalConfig,
    InferenceConfig,
    MaskConfig,
    PathsConfig,
    TileConfig,
)


@dataclass
class _Network:
    """Options of the commands that run a trained network."""

    checkpoint: str = option(MISSING, "best.ckpt or last.ckpt of a run, or a file from cis-seg convert", path=CHECKPOINT)
    device: str = option("auto", "auto (a GPU if there is one), cpu, cuda, cuda:1 ...")


@dataclass
class _ImageSize:
    """The size at which a network sees an image."""

    test_size: int | None = option(None, "shorter side of the resized images in pixels; null: as in the checkpoint's validation", SIDE)
    max_size: int | None = option(None, "maximum length of the longer side in pixels; null: as in the checkpoint's validation", SIDE)


@dataclass
class _Scales:
    """The sizes of the image whose masks for given boxes are averaged."""

    scales: list[float] = option(
        [1.0], "average masks of given boxes over the image at these multiples of its size: [1,1.5,2]", each(above(0, 8))
    )


@dataclass
class EvaluateConfig(_Scales):
    """Score a checkpoint or a results file."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str | None = option(None, "best.ckpt or last.ckpt of a run, or a file from cis-seg convert", path=CHECKPOINT)
    predictions: str | None = option(
        None,
        "COCO results: a json list of image_id, category_id, score, and segmentation, bbox or both; or odgt lines with dtboxes",
        path="the results file does not exist",
    )
    output: str | None = option(
        None, "folder of metrics.json and predictions.json; null: evaluate/<data> in the checkpoint's run", path=WRITTEN
    )
    test_size: int | None = option(None, "shorter side of the resized images in pixels; null: data.test_size", SIDE)
    max_size: int | None = option(None, "maximum length of the longer side in pixels; null: data.test_max_size", SIDE)
    score_threshold: float | None = option(None, "minimum class score x centerness, before NMS; null: eval.score_threshold", SHARE)
    exclusive: bool = option(False, "also score masks that share no pixel (segm_exclusive/...)")
    given_boxes: bool = option(False, "also score masks that are predicted for the ground-truth boxes (given_boxes/...)")
    device: str = option("auto", "auto (a GPU if there is one), cpu, cuda, cuda:1 ...")
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class PredictConfig(_Network, _ImageSize, TileConfig, InferenceConfig, DetectionConfig):
    """Find instances in images and videos."""

    defaults: list[Any] = field(default_factory=list)
    input: str = option(
        MISSING,
        'an image, a video, a folder of them, or a quoted pattern: "input=photos/**/*.jpg"',
        path="no such file or folder, and no match of a pattern",
    )
    output: str = option(MISSING, "folder of predictions.json, one overlay PNG per image and one MP4 per video", path=WRITTEN)
    draw_threshold: float = option(0.3, "minimum score of instances that are drawn and written as masks", SHARE)
    annotations: str | None = option(
        None,
        "COCO json whose images are predicted; results have its image and category ids; null: numbered",
        path="the annotation file does not exist",
    )
    categories: list[str] | None = option(None, "[person,dog]: detect only these classes; null: all classes of the network", NAMES)
    exclusive: bool = option(False, "masks share no pixel: each pixel goes to the best-scored mask that claims it")
    masks: bool = option(False, "also write a black and white PNG per drawn instance, masks/IMAGE_NUMBER.png, best first")
    overlay_size: int = option(2048, "maximum length of the longer side of an overlay in pixels; predictions.json has full size", SIDE)
    exif: str | None = option(None, "EXIF orientation of photos; null: apply, or ignore if annotations is set", EXIF)
    batch_size: int = option(1, "images or tiles at once; does not change the results", BATCH)


@dataclass
class CheckConfig:
    """Check a data set."""

    defaults: list[Any] = field(default_factory=list)
    output: str = option("${paths.runs}/check/${hydra:runtime.choices.data}", "folder of check.txt, check.json and check.png", path=WRITTEN)
    floors: bool = option(False, "also score filled boxes and the ground truth itself as masks, which checks the evaluation")
    pixels: bool = option(True, "decode every image, to find missing and corrupt ones and wrong sizes")
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class FigureConfig(_Network):
    """Draw two checkpoints beside the ground truth."""

    defaults: list[Any] = field(default_factory=list)
    other: str = option(MISSING, "checkpoint of the middle column", path=CHECKPOINT)
    output: str = option(MISSING, "folder of figure4.png and figure4.pdf", path=WRITTEN)
    images: list[int] | None = option(None, "[3,17]: ids of the images; null: those in which the doubly claimed pixels differ most")
    count: int = option(4, "number of such images", COUNT)
    titles: list[str] = option(["BoxInst", "+ OverlapLoss"], "titles of the first two columns", each(TEXT, 2))
    draw_threshold: float = option(0.3, "minimum score of drawn instances", SHARE)
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class MasksFromBoxesConfig(_Network, _ImageSize, MaskConfig, _Scales):
    """Predict a mask for each box of a data set."""

    defaults: list[Any] = field(default_factory=list)
    boxes: str = option(
        MISSING,
        "COCO json with a bbox per annotation; or YOLO's data.yaml; or a folder of YOLO, VOC or labelme labels",
        path="the annotation file does not exist",
    )
    images: str | None = option(
        None, "folder that file names are relative to; null: as the labels say (a json needs it)", path="the image folder does not exist"
    )
    output: str = option(
        MISSING,
        "the same json with masks and confidences from 0 to 1; for labels also a new folder: the json and YOLO-seg (or labelme)",
        path=WRITTEN,
    )
    exif: str | None = option(
        None,
        "boxes on the stored pixels or on the photo as viewers show it; null: ignore for a json, else apply",
        EXIF,
    )
    cut_to_box: bool = option(True, "cut each mask to its box")
    pages: int = option(5, "pages of six overlays each, beside the output (MASKS_000.png ...); 0: none", ANY_COUNT)


@dataclass
class SelectConfig:
    """Choose images of a CrowdHuman split for annotation, as the paper's test set was made; ``data.annotations`` names the split."""

    defaults: list[Any] = field(default_factory=list)
    output: str = option(
        MISSING, "folder of job.json (COCO json, one box per person), images.txt and report.json (reasons per image)", path=WRITTEN
    )
    min_people: int = option(3, "minimum number of people in an image", COUNT)
    max_people: int = option(10, "maximum number of people in an image", COUNT)
    min_iou: float = option(0.05, "minimum IoU at which two people's boxes count as touching", above(0, 1))
    touching: float = option(0.5, "minimum fraction of an image's people who touch another", SHARE)
    iou_boxes: str = option("visible", "boxes that are compared", one_of("visible", "full"))
    min_side: int = option(400, "minimum length of the shorter side in pixels", between(0, MAX_SIDE))
    max_regions: int | None = option(None, "maximum number of ignore regions in an image; null: any", ANY_COUNT)
    count: int | None = option(None, "size of a random sample of the qualifying images; null: all", COUNT)
    seed: int = option(0, "seed of that sample; a larger count keeps the images of a smaller one", SEED)
    photos: str = option(
        "list", "images.txt only, or also links or copies of the photographs in JOB/images", one_of("list", "link", "copy")
    )
    checkpoint: str | None = option(None, "network that predicts draft masks", path=CHECKPOINT)
    masks: str = option("polygons", "format of the draft", one_of("polygons", "rle"))
    device: str = option("auto", "auto (a GPU if there is one), cpu, cuda, cuda:1 ...")
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class ExportConfig(DetectionConfig):
    """Export a checkpoint as an ONNX file."""

    defaults: list[Any] = field(default_factory=list)
    checkpoint: str = option(MISSING, "best.ckpt or last.ckpt of a run, or a file from cis-seg convert", path=CHECKPOINT)
    out: str = option(MISSING, "a new file; an existing one is not overwritten", path=WRITTEN)


@dataclass
class BrowseConfig:
    """Draw what a training run would get from a data set."""

    defaults: list[Any] = field(default_factory=list)
    output: str = option("${paths.runs}/browse/${hydra:runtime.choices.data}", "folder of train_*.png and truth_*.png", path=WRITTEN)
    num_batches: int = option(2, "batches to draw", ANY_COUNT)
    batch_size: int = option(4, "images per batch", BATCH)
    num_truth: int = option(12, "images of the scored set, a random choice", ANY_COUNT)
    seed: int = option(0, "seed of order, sizes, flips and that choice; a training run with it sees the same batches", SEED)
    masks: bool = option(
        False, "also draw the masks in the batches, noisy ones with their score; supervision=mask and supervision=mixed train on them"
    )
    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass(frozen=True)
class Command:
    """A command with overrides.

    Args:
        config: its file in ``conf/``, without ``.yaml``: the config groups it uses and the text of its ``--help``.
        schema: its options.
        task: dotted name of the function that receives the composed config; it is imported once the config is valid.
        takes_arguments: whether that function also receives the arguments of the command line.
    """

    config: str
    schema: type
    task: str
    takes_arguments: bool = False


COMMANDS = {
    "train": Command("config", Config, "cis_seg.commands.train.train", takes_arguments=True),
    "evaluate": Command("evaluate", EvaluateConfig, "cis_seg.commands.evaluate.evaluate"),
    "predict": Command("predict", PredictConfig, "cis_seg.commands.predict.predict_and_exit"),
    "check_dataset": Command("check", CheckConfig, "cis_seg.commands.check_dataset.check"),
    "browse": Command("browse", BrowseConfig, "cis_seg.commands.browse.browse"),
    "masks_from_boxes": Command("masks_from_boxes", MasksFromBoxesConfig, "cis_seg.commands.masks_from_boxes.mask_and_exit"),
    "export_onnx": Command("export", ExportConfig, "cis_seg.commands.export_onnx.export_onnx"),
    "figure4": Command("figure", FigureConfig, "cis_seg.commands.figure4.figure4"),
    "select_crowd_images": Command("select", SelectConfig, "cis_seg.commands.select_crowd_images.select_and_report"),
}


def options_of(config: str) -> dict[str, Field[Any]]:
    """Return the options of the command with the file ``config``, by their dotted names."""
    return dict(options(next(command for command in COMMANDS.values() if command.config == config)))


def options(command: Command) -> Iterator[tuple[str, Field[Any]]]:
    """Yield the dotted name and the field of every option of a command, those of all data sets included."""
    yield from _options(command.schema, "")
    if any(entry.name == "data" for entry in fields(command.schema)):
        for schema in DATA_SCHEMAS.values():
            yield from _options(schema, "data.")


def _options(schema: Any, prefix: str) -> Iterator[tuple[str, Field[Any]]]:
    for entry in fields(schema):
        if "meaning" in entry.metadata:
            yield prefix + entry.name, entry
        elif is_dataclass(entry.default_factory):
            yield from _options(entry.default_factory, f"{prefix}{entry.name}.")


def register() -> None:
    """Register the schemas with Hydra under the names that the config files list first."""
    store = ConfigStore.instance()
    for command in COMMANDS.values():
        store.store(name=f"{command.config}_schema", node=command.schema)
    for name, node in DATA_SCHEMAS.items():
        store.store(group="data", name=f"{name}_schema", node=node)
