"""The callback, run by a real Trainer on a module that predicts fixed masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.structures import Batch, Instances, Target
from cis_seg.training.callbacks.overlays import Overlays, label_map, original_pixels
from cis_seg.visualization.drawing import Drawing

SIZE = (60, 80)
NUM_IMAGES = 5


def square(x: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[20:40, x : x + 20] = 1
    return mask


def one_batch(image_ids: tuple[int, ...]) -> Batch:
    pixels = torch.full((len(image_ids), 3, 64, 96), 0, dtype=torch.uint8)
    pixels[:, :, :30, :40] = 120  # the network saw half the size of the file
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    count = len(image_ids)
    return Batch(pixels, pixels, ((30, 40),) * count, (SIZE,) * count, image_ids, tuple(range(count)), (target,) * count)


class FixedPredictions(L.LightningModule):
    class_names = ("person",)

    def ground_truth(self, index: int) -> GroundTruth:
        return GroundTruth(self.trainer.datamodule.val_ground_truths[index], self.class_names)  # type: ignore[attr-defined]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        masks = tuple({"size": list(SIZE), "counts": coco_mask.encode(square(x))["counts"]} for x in (10, 22, 50))
        boxes = torch.tensor([[10.0, 20, 30, 40], [22, 20, 42, 40], [50, 20, 70, 40]])
        found = Instances(boxes, torch.tensor([0.9, 0.6, 0.1]), torch.zeros(3, dtype=torch.int64), masks, SIZE)  # type: ignore[arg-type]
        return {"batch": batch, "instances": [found for _ in batch.image_ids]}


class ScoredSets(L.LightningDataModule):
    def __init__(self, truth: Path, sets: int) -> None:
        super().__init__()
        self.val_ground_truths = [truth] * sets

    def val_dataloader(self) -> list[Any]:
        batches = [one_batch((0, 1)), one_batch((2, 3)), one_batch((4,))]
        return [DataLoader(batches, batch_size=None, num_workers=0) for _ in self.val_ground_truths]  # type: ignore[arg-type]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    people = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 1,
            "bbox": [10, 20, 20, 20],
            "area": 400,
            "segmentation": [[10, 20, 30, 20, 30, 40, 10, 40]],
        }
        for i in range(NUM_IMAGES)
    ]
    path.write_text(
        json.dumps(
            {
                "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(NUM_IMAGES)],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": people,
            }
        )
    )
    return path


def validate(run_dir: Path, truth: Path, callback: Overlays, *, sets: int = 1, times: int = 1, logger: Any = False) -> Path:
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=logger,
        callbacks=[callback],
        default_root_dir=run_dir,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    for _ in range(times):
        trainer.validate(FixedPredictions(), datamodule=ScoredSets(truth, sets), verbose=False)
    return run_dir / "overlays"


def test_first_images_become_panels(tmp_path: Path, truth: Path) -> None:
    folder = validate(tmp_path, truth, Overlays(num_images=3))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["latest.png", *(f"step0000000_{i:02d}_{i}.png" for i in range(3))]
    panel = np.asarray(Image.open(folder / "step0000000_00_0.png")).astype(int)
    factor = 9  # 80 px are enlarged to 720
    assert panel.shape[1] == 2 * 80 * factor + 8
    left, right = panel[-60 * factor :, : 80 * factor], panel[-60 * factor :, 80 * factor + 8 :]
    middle = (30 * factor, 20 * factor)  # inside the person that both have
    assert (left[middle] != 120).any()
    assert np.abs(left[middle] - right[middle]).max() <= 2, "the same person has one colour on both sides"
    only_predicted, below_threshold = (30 * factor, 36 * factor), (30 * factor, 60 * factor)
    assert (left[only_predicted] == 120).all()
    assert (right[only_predicted] != 120).any()
    assert (right[below_threshold] == 120).all()


def test_second_set_and_every_n_validations(tmp_path: Path, truth: Path) -> None:
    callback = Overlays(num_images=1, every_n_validations=2)
    folder = validate(tmp_path, truth, callback, sets=2)
    assert (folder / "train_set" / "step0000000_00_0.png").is_file()
    assert (folder / "train_set" / "latest.png").is_file()
    (folder / "latest.png").unlink()
    validate(tmp_path, truth, callback)
    assert not (folder / "latest.png").exists()
    validate(tmp_path, truth, callback)
    assert (folder / "latest.png").exists()


def test_wandb_gets_switchable_masks_and_boxes(tmp_path: Path, truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="overlays", save_dir=tmp_path, offline=True)
    try:
        validate(tmp_path, truth, Overlays(num_images=2), logger=logger)
    finally:
        wandb.finish()
    media = next(tmp_path.glob("wandb/offline-run-*/files/media"))
    images = sorted(media.glob("images/overlays/*.png"))
    assert len(images) == 2
    assert Image.open(images[0]).size == (720, 540)
    label_maps = [np.asarray(Image.open(path)) for path in media.glob("images/mask/**/*.png")]
    assert sorted(int(labels.max()) for labels in label_maps) == [1, 1, 2, 2]  # truth has one person, the prediction two
    boxes = [json.loads(path.read_text())["box_data"] for path in media.glob("metadata/boxes2D/**/*.json")]
    assert sorted(len(data) for data in boxes) == [1, 1, 2, 2]
    scores = [box["scores"]["score"] for data in boxes for box in data if box.get("scores")]
    assert sorted(scores) == pytest.approx([0.6, 0.6, 0.9, 0.9])


def test_original_pixels_lose_their_padding() -> None:
    pixels = original_pixels(one_batch((7,)), 0)
    assert pixels.shape == (*SIZE, 3)
    assert (pixels == 120).all()


def test_better_mask_wins_in_the_label_map() -> None:
    first, second = (Drawing((x, 20, x + 20, 40), coco_mask.encode(square(x))) for x in (10, 22))
    labels = label_map([first, second], 1, SIZE)
    assert labels[30, 25] == 1
    assert labels[30, 35] == 2
    assert labels[0, 0] == 0
