"""Overlays of a teacher's masks: what the network was taught in the last training step before a validation."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger

from cis_seg.coco import rle
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.structures import Batch, PseudoMasks
from cis_seg.training.callbacks.overlays import MAX_SIDE, log_to_wandb, overlay_folder, save_png
from cis_seg.visualization.drawing import Drawing, Pixels, contact_sheet, draw_instances, neighbour_colors, side_by_side


class TeacherOverlays(L.Callback):
    """Draw the boxes and the teacher's masks of the last training images before each validation; nothing without a teacher.

    The teacher predicts them again, with the average that is about to be scored. Pixels that do not count in its loss are left out of the
    masks; the captions are the qualities. Runs on rank 0 only, with the images of rank 0.

    Writes ``<default_root_dir>/overlays/teacher/step<step>_<index>_<image id>.png``, and ``latest.png`` with all panels on one page.

    Args:
        num_images: maximum number of images; a batch may have fewer.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self._batch: Batch | None = None  # of the last training step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if trainer.is_global_zero and pl_module.teacher is not None:
            self._batch = batch

    @torch.no_grad()
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._batch is None:
            return
        batch, self._batch = first_images(self._batch, self.num_images), None
        pseudo: PseudoMasks = pl_module.teacher(pl_module.average, batch)  # type: ignore[operator]
        folder, panels = overlay_folder(trainer, "teacher"), []
        for index, image_id in enumerate(batch.image_ids):
            height, width = batch.image_sizes[index]
            image = batch.clean_pixels[index, :, :height, :width].permute(1, 2, 0).cpu().numpy()
            drawings = taught_drawings(pseudo, batch, index)
            panels.append(_panel(image, drawings))
            save_png(panels[-1], folder / f"step{trainer.global_step:07d}_{index:02d}_{image_id}.png")
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    names = pl_module.class_names
                    log_to_wandb(logger, f"overlays/teacher/{index}", trainer.global_step, image, {"teacher": drawings}, names)  # type: ignore[arg-type]
        save_png(contact_sheet(panels), folder / "latest.png")


def first_images(batch: Batch, number: int) -> Batch:
    """Return the first ``number`` images of a batch."""
    return replace(batch, **{field.name: getattr(batch, field.name)[:number] for field in fields(batch)})


def taught_drawings(pseudo: PseudoMasks, batch: Batch, index: int) -> list[Drawing]:
    """Return the boxes of image ``index`` with the teacher's masks at the size of the network's input; one of quality 0 has no mask."""
    target, start = batch.targets[index], pseudo.starts[index]
    own = slice(start, start + len(target.boxes))
    counted = pseudo.masks[own] * pseudo.trusted[own]
    height, width = batch.image_sizes[index]
    masks = aligned_bilinear(counted[:, None], batch.padded_size[0] // counted.shape[-2])[:, 0, :height, :width] > 0.5
    rows = zip(target.boxes.tolist(), masks.cpu().numpy(), target.labels.tolist(), pseudo.quality[own].tolist(), strict=True)
    return [
        Drawing((x0, y0, x1, y1), rle.encode(mask) if quality else None, label, quality, f"{quality:.2f}")
        for (x0, y0, x1, y1), mask, label, quality in rows
    ]


def _panel(image: Pixels, drawings: list[Drawing]) -> Pixels:
    """Return the boxes left and the masks right, an instance in the same colour."""
    colors = neighbour_colors(drawings)
    boxes = [replace(drawing, mask=None, caption="") for drawing in drawings]
    panels = [draw_instances(image, shown, colors, max_side=MAX_SIDE) for shown in (boxes, drawings)]
    return side_by_side(panels, [f"boxes: {len(boxes)}", f"teacher's masks: {sum(drawing.mask is not None for drawing in drawings)}"])
