"""``python scripts/browse.py``: training batches as the model sees them, and the ground truth of the scored set, as PNG pages."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from cis_seg.build import build_data
from cis_seg.coco.checks import check_file_name
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.config.command_schema import BrowseConfig
from cis_seg.config.schema import CocoData, ModelConfig, OptimConfig
from cis_seg.config.validation import checked
from cis_seg.data.images import read_image
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.records import missing_folder
from cis_seg.visualization.drawing import Pixels, draw_instances, side_by_side, true_drawings
from cis_seg.visualization.pages import Pages, batch_panel

MAX_SIDE = 1280  # px of a drawn image's longer side; a page shows 960 of them


def browse(cfg: DictConfig) -> list[Path]:
    """Draw training batches if the data set has training annotations, and the ground truth if it has a scored set.

    The batches are the first ones of a training run with this seed and batch size. The ground truth is drawn for a seeded random choice of
    the annotated images, one colour per mask, as in the paper's Figure 3.

    Returns:
        The pages written.

    Raises:
        UserError: no annotation file, or an invalid one.
    """
    typed: BrowseConfig = checked(cfg)
    output = Path(typed.output).expanduser()
    optim = OptimConfig(batch_size=typed.batch_size)
    data = build_data(
        typed.data, home=Path(typed.paths.data), optim=optim, seed=typed.seed, load_masks=typed.masks, optional_masks=typed.masks
    )
    files = data.annotated_files("train", "val")
    with Pages(output, "train") as train, Pages(output, "truth") as truth:
        if "train" in files:
            _draw_batches(data, typed, train)
        if "val" in files:
            _draw_truth(*files["val"], typed, truth)
    written = [*train.written, *truth.written]
    print("\n".join(map(str, written)))
    return written


def _draw_batches(data: InstanceDataModule, cfg: BrowseConfig, pages: Pages) -> None:
    """Draw a page per batch, or several for a large batch."""
    names = data.train_dataset.class_names
    for batch in islice(data.train_dataloader(), cfg.num_batches):
        for index, position in enumerate(batch.positions):
            _, flipped, _ = data.train_transform.drawn(position)
            pages.add(batch_panel(batch, index, names, mask_stride=ModelConfig.mask_out_stride, note=", flipped" if flipped else ""))
        pages.turn()


def _draw_truth(annotations: Path, images: Path, cfg: BrowseConfig, pages: Pages) -> None:
    """Draw a random choice of the annotated images, in the file's order."""
    if not images.is_dir():
        raise missing_folder(images, annotations)
    truth = GroundTruth(annotations, cfg.data.categories if isinstance(cfg.data, CocoData) else None)
    annotated = [image_id for image_id in truth.images if truth.image_annotations(image_id)]
    count = min(cfg.num_truth, len(annotated))
    for index in sorted(np.random.default_rng(cfg.seed).choice(len(annotated), count, replace=False).tolist()):
        pages.add(_true_panel(truth, annotated[index], images, cfg.data.exif))


def _true_panel(truth: GroundTruth, image_id: int, images: Path, exif: str) -> Pixels:
    """Return the photo, and beside it the same photo with its ground truth."""
    name = check_file_name(truth.images[image_id].get("file_name"), culprit=f"image {image_id}", where=truth.path, folder=images)
    pixels = read_image(images / name, exif=exif)
    drawings = true_drawings(truth, image_id)
    crowds = sum(drawing.crowd for drawing in drawings)
    found = f"{len(drawings) - crowds} annotated" + (f", {crowds} ignore regions" if crowds else "")
    panels = [draw_instances(pixels, some, max_side=MAX_SIDE, boxes=False) for some in ([], drawings)]
    return side_by_side(panels, [f"image {image_id}", found])
