"""From a sample to the network's input: resize, flip, photometric augmentation, target.

Legend: H W size of the file, h w size after resizing, G ground truths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cis_seg.coco import rle
from cis_seg.coco.boxes import clipped, nonempty
from cis_seg.data.records import Sample
from cis_seg.errors import ConfigError
from cis_seg.structures import RLE, Target

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One image ready for collation."""

    pixels: Tensor  # (3, h, w) uint8 RGB
    clean_pixels: Tensor  # before photometric augmentation; the same object without any
    target: Target
    image_id: int
    original_size: tuple[int, int]  # (H, W)
    position: int  # in the endless training stream


def resized_size(height: int, width: int, size: int, max_size: int) -> tuple[int, int]:
    """(h, w) after scaling the shorter side to ``size``, or less if the longer would exceed ``max_size``.

    Sides are rounded as int(x + 0.5) (AdelaiDet), never below 1.
    """
    short, long = min(height, width), max(height, width)
    scale = min(size / short, max_size / long)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """``image`` (H, W, 3) at ``height`` x ``width``, PIL's antialiased bilinear.

    PIL rather than torchvision, whose result is the same only on some processors.
    """
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


class TestTransform:
    """Resize only. ``size`` is the shorter side in pixels, ``max_size`` the maximum of the longer."""

    __test__ = False  # despite its name, not a test class of pytest

    def __init__(self, *, size: int, max_size: int) -> None:
        _check_sizes([size], max_size, "data.test_size, data.test_max_size")
        self.size, self.max_size = size, max_size

    def scaled(self, factor: float) -> TestTransform:
        """The resizing to sides ``factor`` times as long, rounded to pixels."""
        size, max_size = (max(round(side * factor), 1) for side in (self.size, self.max_size))
        return TestTransform(size=size, max_size=max_size)

    def __call__(self, sample: Sample, position: int) -> Example:
        """The example of ``sample``; deterministic."""
        height, width = resized_size(*sample.original_size, self.size, self.max_size)
        pixels = _tensor(resized(sample.image, height, width))
        return Example(pixels, pixels, _target(sample, height, width, flip=False), sample.image_id, sample.original_size, position)


class TrainTransform:
    """Random size, horizontal flip, and optional photometric augmentation; the first images at half the size (progressive resizing).

    All random choices come from one generator seeded by f(seed, position), so an example depends only on the sample, the
    seed and its position in the stream.

    Args:
        sizes: shorter sides in pixels to draw from, each as likely; ``range(384, 481)`` for a range.
        max_size: the most for the longer side.
        flip: probability of the horizontal flip.
        photometric: ``none``, ``light`` (brightness, contrast, hue, saturation) or ``strong`` (and blur, noise,
            JPEG artefacts, grey), by albumentations.
        seed: 0 or more.
        half_size: number of examples at the beginning of the stream whose sides are half as long, rounded up to pixels
            (fast.ai's progressive resizing in DAWNBench, 2018).
    """

    def __init__(
        self, *, sizes: Sequence[int], max_size: int, flip: float = 0.5, photometric: str = "none", seed: int = 0, half_size: int = 0
    ) -> None:
        _check_sizes(sizes, max_size, "data.train_sizes or data.train_size_range, data.train_max_size")
        self.sizes, self.max_size, self.flip, self.seed, self.half_size = sizes, max_size, flip, seed, half_size
        self._photometric = _pipeline(photometric)

    def __call__(self, sample: Sample, position: int) -> Example:
        """The example of ``sample`` at ``position`` of the stream."""
        size, flip, generator = self.drawn(position)
        divisor = self.divisor(position)
        height, width = resized_size(*sample.original_size, *(-(-side // divisor) for side in (size, self.max_size)))
        image = resized(sample.image, height, width)
        image = image[:, ::-1] if flip else image
        pixels = clean = _tensor(image)
        if self._photometric is not None:
            self._photometric.set_random_seed(int(generator.integers(2**31)))
            pixels = _tensor(self._photometric(image=np.ascontiguousarray(image))["image"])
        return Example(pixels, clean, _target(sample, height, width, flip=flip), sample.image_id, sample.original_size, position)

    def divisor(self, position: int) -> int:
        """2 where the image at ``position`` of the stream has half the size, else 1."""
        return 2 if position < self.half_size else 1

    def drawn(self, position: int) -> tuple[int, bool, np.random.Generator]:
        """The shorter side (before it is halved) and whether to flip at ``position``, and the generator of all later draws."""
        generator = np.random.default_rng([self.seed, position])
        size = self.sizes[int(generator.integers(len(self.sizes)))]
        return size, bool(generator.random() < self.flip), generator


def _check_sizes(sizes: Sequence[int], max_size: int, where: str) -> None:
    if not sizes or min(sizes) < 1 or max_size < max(sizes):
        raise ConfigError(
            "the image sizes are inconsistent",
            where=where,
            found=f"shorter side {list(sizes)[:8]}, longer at most {max_size}",
            expected="one or more shorter sides in pixels, none above the longest allowed",
            remedy="COCO uses shorter sides of 640 to 800 and a longer side of at most 1333",
        )


def _tensor(image: Pixels) -> Tensor:
    """(h, w, 3) -> (3, h, w)"""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _target(sample: Sample, height: int, width: int, *, flip: bool) -> Target:
    """The annotations at the new size: scaled, flipped, clipped; boxes that become empty are dropped, masks get a score of 0."""
    boxes = _resized_boxes(sample.boxes, sample.original_size, height, width, flip=flip)
    kept = nonempty(boxes)
    masks = None if sample.masks is None else _masks([m for m, k in zip(sample.masks, kept, strict=True) if k], height, width, flip)
    regions = _resized_boxes(sample.ignore_boxes, sample.original_size, height, width, flip=flip)
    regions = regions[nonempty(regions)]
    ignored = torch.from_numpy(regions) if len(regions) else None
    scores = None if sample.mask_scores is None or masks is None else torch.from_numpy(sample.mask_scores[kept]) * masks.any(-1).any(-1)
    return Target(torch.from_numpy(boxes[kept]), torch.from_numpy(sample.labels[kept]), masks, ignored, scores)


def _resized_boxes(boxes: Boxes, old_size: tuple[int, int], height: int, width: int, *, flip: bool) -> Boxes:
    """``boxes`` (G, 4) of an image of ``old_size`` = (H, W), in pixels of the resized image and clipped to it."""
    old_height, old_width = old_size
    ratio = np.array([width / old_width, height / old_height] * 2, dtype=np.float32)
    boxes = boxes * ratio
    if flip:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return clipped(boxes, height, width)


def _masks(codes: Sequence[RLE | None], height: int, width: int, flip: bool) -> Tensor:
    """(G, h, w) bool by nearest neighbour, empty without a code; decoded one by one, so only one mask is in memory at full size."""
    masks = torch.zeros(len(codes), height, width, dtype=torch.bool)
    for mask, code in zip(masks, codes, strict=True):
        if code is None:
            continue
        image = Image.fromarray(rle.decode(code)).resize((width, height), Image.Resampling.NEAREST)
        mask.copy_(torch.from_numpy(np.array(image)))
    return masks.flip(2) if flip else masks


def _pipeline(photometric: str) -> Any:
    """The albumentations pipeline, or None; imported here because few runs need it."""
    if photometric == "none":
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks a server for its version when imported
    import albumentations as A

    steps = [A.RandomBrightnessContrast(p=0.5), A.HueSaturationValue(hue_shift_limit=10, p=0.5)]
    if photometric == "strong":
        steps += [
            A.RandomGamma(p=0.3),
            A.GaussianBlur(p=0.2),
            A.GaussNoise(p=0.2),
            A.ImageCompression(quality_range=(40, 90), p=0.2),
            A.ToGray(p=0.1),
        ]
    return A.Compose(steps)
