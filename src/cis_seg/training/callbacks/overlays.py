"""Overlays of the validation: ground truth and predictions side by side as PNG files, and as toggleable masks and boxes for W&B."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray
from PIL import Image

from cis_seg.coco import rle
from cis_seg.runtime.atomic_files import retry_while_disk_full, write_atomically
from cis_seg.structures import Batch, Instances
from cis_seg.visualization.drawing import (
    Drawing,
    Pixels,
    contact_sheet,
    predicted_drawings,
    resized,
    true_drawings,
    truth_and_prediction,
    view_scale,
)

MAX_SIDE = 1280  # CIS has images of 5760 px, and a panel shows two of them side by side
SUBFOLDERS = ("", "train_set")  # of each scored set
MAX_MASKS = 255  # W&B stores a label map with one byte per pixel


class Overlays(L.Callback):
    """Draw the predictions of the validation, which are those that are scored: nothing is predicted twice.

    Reads ``outputs = {"batch": Batch, "instances": list[Instances]}`` of the validation step, and ``class_names`` and
    ``ground_truth(dataloader index)`` of the module. Runs on rank 0 only, with the images that this rank validates.
    Writes ``<default_root_dir>/overlays/step<step>_<index>_<image id>.png``, and ``latest.png`` with all panels on one page;
    overlays of a second scored set are written to ``overlays/train_set/``.

    Args:
        num_images: number of images of each set, from its start.
        every_n_validations: draw in every n-th validation, including the first.
        draw_threshold: minimum score of a drawn instance.
    """

    def __init__(self, num_images: int = 8, every_n_validations: int = 1, draw_threshold: float = 0.3) -> None:
        self.num_images = num_images
        self.every_n_validations = every_n_validations
        self.draw_threshold = draw_threshold
        self._validations = 0
        self._panels: dict[int, list[Pixels]] = {}

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._panels = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        due = self._validations % self.every_n_validations == 0
        if trainer.sanity_checking or not trainer.is_global_zero or not due:
            return
        panels = self._panels.setdefault(dataloader_idx, [])
        for index, instances in enumerate(outputs["instances"][: self.num_images - len(panels)]):
            panels.append(self._panel(trainer, pl_module, outputs["batch"], index, instances, dataloader_idx))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validations += 1
        for dataloader_idx, panels in self._panels.items():
            if panels:
                save_png(contact_sheet(panels), overlay_folder(trainer, SUBFOLDERS[dataloader_idx]) / "latest.png")
        self._panels = {}

    def _panel(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, index: int, instances: Instances, dataloader_idx: int
    ) -> Pixels:
        """Draw, write and log one image."""
        image_id, image = batch.image_ids[index], original_pixels(batch, index)
        names: Sequence[str] = pl_module.class_names  # type: ignore[assignment]
        truth = true_drawings(pl_module.ground_truth(dataloader_idx), image_id)  # type: ignore[operator]
        predictions = predicted_drawings(instances, names, self.draw_threshold)
        note = f" of {len(instances.masks)} scored {self.draw_threshold:g} or more"
        panel = truth_and_prediction(image, truth, predictions, max_side=MAX_SIDE, note=note)
        index_in_set = len(self._panels[dataloader_idx])
        name = f"step{trainer.global_step:07d}_{index_in_set:02d}_{image_id}.png"
        save_png(panel, overlay_folder(trainer, SUBFOLDERS[dataloader_idx]) / name)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                key = f"overlays/{'train_set/' if dataloader_idx else ''}{image_id}"
                log_to_wandb(logger, key, trainer.global_step, image, {"prediction": predictions, "truth": truth}, names)
        return panel


def save_png(picture: Pixels, path: Path) -> None:
    """Write the picture atomically; if the disk is full, wait instead of ending the run."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    retry_while_disk_full(lambda: write_atomically(path, buffer.getbuffer()), path, buffer.tell())


def overlay_folder(trainer: L.Trainer, name: str = "") -> Path:
    """Return the run's folder of overlays, or its folder ``name``; it is created."""
    folder = Path(trainer.default_root_dir) / "overlays" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def original_pixels(batch: Batch, index: int) -> Pixels:
    """Return one image of a batch without padding, at the size of its file: (height, width, 3) uint8 RGB."""
    height, width = batch.image_sizes[index]
    pixels = batch.pixels[index, :, :height, :width].permute(1, 2, 0).cpu().numpy()
    full_height, full_width = batch.original_sizes[index]
    return np.asarray(cv2.resize(pixels, (full_width, full_height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def label_map(drawings: Sequence[Drawing], scale: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (h, w) uint8 of the given ``size``: 0 is background, 1.. the drawings in order; where masks overlap, the earlier one wins."""
    labels = np.zeros(size, dtype=np.uint8)
    for number, drawing in reversed(list(enumerate(drawings[:MAX_MASKS], start=1))):
        if drawing.mask is not None:
            mask = resized(rle.decode(drawing.mask), scale, smooth=False)
            labels[mask > 0] = number
    return labels


def log_to_wandb(
    logger: WandbLogger, key: str, step: int, image: Pixels, layers: dict[str, Sequence[Drawing]], class_names: Sequence[str]
) -> None:
    """Log one image with a layer of masks and a layer of boxes for each of ``layers``; every object can be toggled.

    Masks are numbered by object, not by class: in an image of people a class map would be a single region.
    """
    scale = view_scale((image.shape[0], image.shape[1]), MAX_SIDE)
    view = resized(image, scale)
    masks = {
        name: {"mask_data": label_map(drawings, scale, view.shape[:2]), "class_labels": _object_names(drawings, class_names)}
        for name, drawings in layers.items()
    }
    boxes = {
        name: {"box_data": [_wandb_box(d, scale, class_names) for d in drawings], "class_labels": dict(enumerate(class_names))}
        for name, drawings in layers.items()
    }
    logger.log_image(key=key, images=[view], step=step, masks=[masks], boxes=[boxes])


def _object_names(drawings: Sequence[Drawing], class_names: Sequence[str]) -> dict[int, str]:
    """Return the caption of each number of the label map: "3 person 0.87"."""

    def text(drawing: Drawing) -> str:
        return "crowd" if drawing.crowd else class_names[drawing.label] + ("" if drawing.score is None else f" {drawing.score:.2f}")

    return {number: f"{number} {text(drawing)}" for number, drawing in enumerate(drawings[:MAX_MASKS], start=1)}


def _wandb_box(drawing: Drawing, scale: float, class_names: Sequence[str]) -> dict[str, Any]:
    corners = dict(zip(("minX", "minY", "maxX", "maxY"), (value * scale for value in drawing.box), strict=True))
    box: dict[str, Any] = {
        "position": corners,
        "domain": "pixel",
        "class_id": drawing.label,
        "box_caption": drawing.caption or class_names[drawing.label],
    }
    return box if drawing.score is None else box | {"scores": {"score": drawing.score}}
