"""The last validation image by image: a table in W&B to sort and filter, to find where a network fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray

from cis_seg.coco.boxes import box_iou
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import to_results
from cis_seg.coco.rle import mask_iou
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins, mean_overlap_degree
from cis_seg.structures import Instances
from cis_seg.training.callbacks.overlays import original_pixels
from cis_seg.training.callbacks.wandb_logging.dashboard import is_last
from cis_seg.training.metrics import RESULTS
from cis_seg.visualization.drawing import Pixels, predicted_drawings, true_drawings, truth_and_prediction

MAX_SIDE = 480  # panels in a table are small, and a hundred of them are stored
FOUND_IOU = 0.5  # as in AP50


@dataclass(frozen=True)
class ImageRow:
    """One row; ``COLUMNS`` are these fields and the overlay."""

    image_id: int
    people: int  # ground-truth instances, without ignore regions
    crowding: str  # highest level among them, as in segm/AP/crowd_*
    predicted: int  # predictions with at least the draw threshold
    found: int  # ground-truth instances that one of these matches with an IoU of 0.5 or more
    best_iou: float | None  # percent; mean over the ground-truth instances of the largest IoU with any of these
    overlap_degree: float | None  # Eq. 1 over the pairs of predictions whose boxes touch


COLUMNS = ("image id", "people", "crowding", "predicted", "found", "best IoU", "overlap degree", "truth and prediction")


class ImageTable(L.Callback):
    """Log the table ``results`` to W&B at the last validation, from the predictions that are scored.

    Runs on rank 0 only, with the held-out images that this rank validates. Does nothing for other loggers.

    Args:
        num_images: number of images, from the start of the set; 0 logs no table.
        draw_threshold: minimum score of a prediction that is counted and drawn.
    """

    def __init__(self, num_images: int = 100, draw_threshold: float = 0.3) -> None:
        self.num_images, self.draw_threshold = num_images, draw_threshold
        self._rows: list[list[Any]] = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not (_loggers(trainer) and is_last(trainer)) or dataloader_idx > 0:
            return
        import wandb

        truth: GroundTruth = pl_module.ground_truth(0)  # type: ignore[operator]
        for index, instances in enumerate(outputs["instances"][: self.num_images - len(self._rows)]):
            image_id = outputs["batch"].image_ids[index]
            panel = self._panel(original_pixels(outputs["batch"], index), truth, image_id, instances)
            row = image_row(truth, image_id, instances, self.draw_threshold)
            self._rows.append([*astuple(row), wandb.Image(panel, file_type="jpg")])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in _loggers(trainer) if self._rows else ():
            logger.log_table(RESULTS, columns=list(COLUMNS), data=self._rows, step=trainer.global_step - 1)
        self._rows = []

    def _panel(self, image: Pixels, truth: GroundTruth, image_id: int, instances: Instances) -> Pixels:
        predictions = predicted_drawings(instances, truth.category_names, self.draw_threshold)
        return truth_and_prediction(image, true_drawings(truth, image_id), predictions, max_side=MAX_SIDE)


def _loggers(trainer: L.Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)] if trainer.is_global_zero else []


def image_row(truth: GroundTruth, image_id: int, instances: Instances, threshold: float) -> ImageRow:
    """Return the row of one image. IoUs are those of masks, or of boxes without ground-truth masks; categories must agree."""
    people = [a for a in truth.image_annotations(image_id) if not a["iscrowd"]]
    shown = [entry for entry in to_results(instances, image_id, truth.category_ids) if entry["score"] >= threshold]
    best = best_ious(people, shown, "segmentation" if truth.has_masks else "bbox")
    levels = crowd_bins(people).values()
    return ImageRow(
        image_id=image_id,
        people=len(people),
        crowding=max(levels, key=CROWD_BINS.index, default=CROWD_BINS[0]),
        predicted=len(shown),
        found=int((best >= FOUND_IOU).sum()),
        best_iou=100 * float(best.mean()) if people else None,
        overlap_degree=mean_overlap_degree(shown),
    )


def best_ious(people: Sequence[dict[str, Any]], shown: Sequence[dict[str, Any]], key: str) -> NDArray[np.float64]:
    """Return (people,): each one's largest IoU with a prediction of its category, 0 without any. ``key``: ``segmentation`` or ``bbox``."""
    if not people or not shown:
        return np.zeros(len(people))
    overlap = box_iou if key == "bbox" else mask_iou
    iou = overlap([e[key] for e in shown], [a[key] for a in people])  # (shown, people)
    same = np.array([[e["category_id"] == a["category_id"] for a in people] for e in shown])
    return np.asarray((iou * same).max(axis=0), dtype=np.float64)
