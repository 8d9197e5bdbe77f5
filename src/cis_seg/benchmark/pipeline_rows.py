"""Rows of the data pipeline and the postprocessing: from files to batches, from detections to run-length codes.

Legend: N detections, h w mask grid.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from cis_seg.benchmark import textbook
from cis_seg.benchmark.rows import Row, Setting, Work, both_sides
from cis_seg.benchmark.textbook import logits_of, samples_of, scene
from cis_seg.data.batches import collate
from cis_seg.data.images import read_image
from cis_seg.data.records import Sample
from cis_seg.data.transforms import TrainTransform, resized_size
from cis_seg.inference.postprocess import render_masks

DETECTIONS = 300
IMAGES, SHORT_SIDE, LONG_SIDE = 8, 480, 1333


def _postprocess(setting: Setting, *, ours: bool) -> Work:
    """Render the masks of many detections at 480 x 640, from logits at stride 4 to run-length codes at 720 x 960."""
    size, original, count = ((64, 96), (96, 144), 5) if setting.quick else ((480, 640), (720, 960), DETECTIONS)
    samples = samples_of(scene(size, count, device=setting.device), count)
    logits = logits_of(samples, (size[0] // 4, size[1] // 4))

    def work() -> Mapping[str, Tensor]:
        codes = render_masks(logits, size, original, size) if ours else textbook.pasted_masks(logits, size, original, 4)
        return {"areas": torch.tensor([int(coco_mask.area(code)) for code in codes])}  # of a list it counts in 8 bits

    return work


def _dataloader(setting: Setting, *, ours: bool) -> Work:
    """Read, resize and pad a batch as one worker does, without the worker process."""
    folder = TemporaryDirectory()
    files = _write_images(Path(folder.name), (96, 128) if setting.quick else (720, 960))
    short = 64 if setting.quick else SHORT_SIDE
    transform = TrainTransform(sizes=[short], max_size=LONG_SIDE, flip=0.0)
    boxes, labels = np.array([[10, 10, 50, 90]], dtype=np.float32), np.zeros(1, dtype=np.int64)

    def work(_keep: TemporaryDirectory[str] = folder) -> Mapping[str, Tensor]:
        if not ours:
            return {"pixels": _plain_batch(files, short)}
        samples = [Sample(read_image(path), boxes, labels, None, i, path) for i, path in enumerate(files)]
        return {"pixels": collate([transform(sample, i) for i, sample in enumerate(samples)]).pixels}

    return work


def _write_images(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Write JPEG files of smooth colours with noise, compressed like photographs."""
    files = []
    for number in range(IMAGES):
        pixels = scene((size[0] // 32 * 32, size[1] // 32 * 32), 10, seed=number).pixels[0].permute(1, 2, 0).numpy()
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def _plain_batch(files: list[Path], short: int) -> Tensor:
    """Decode and resize with PIL, image by image, into one padded tensor."""
    images = []
    for path in files:
        image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        height, width = resized_size(image.height, image.width, short, LONG_SIDE)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    height, width = (-(-max(image.shape[side] for image in images) // 32) * 32 for side in (1, 2))
    batch = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    for slot, pixels in zip(batch, images, strict=True):
        slot[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return batch


PIPELINE: dict[str, Row] = {
    "postprocess": both_sides(_postprocess, f"{DETECTIONS} detections, 480x640 to 720x960"),
    "dataloader": both_sides(_dataloader, f"a batch of {IMAGES} JPEGs of 704x960, to 480, on the CPU", tolerance=0.0),
}
