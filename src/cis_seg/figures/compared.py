"""What two checkpoints show on one image, how much of it differs, and the images on which most does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

from cis_seg.figures.contested import contested_mask, contested_share
from cis_seg.visualize import Drawing


@dataclass(frozen=True)
class Compared:
    """One image and what both checkpoints show on it."""

    index: int  # its place in the data set
    image_id: int
    shown: tuple[Sequence[Drawing], Sequence[Drawing]]  # first checkpoint's, second's; each drawing has a mask


def masks_of(drawings: Sequence[Drawing]) -> list[Any]:
    """The run-length codes of people; regions to ignore claim nothing."""
    return [drawing.mask for drawing in drawings if drawing.mask is not None and not drawing.crowd]


def change(compared: Compared) -> float:
    """Pixels that two people claim for one checkpoint and not for the other, over the pixels that any person claims, 0 to 1.

    Symmetric, so that the images with the largest change are not those on which one of the two looks best.
    """
    masks = [masks_of(drawings) for drawings in compared.shown]
    claimed = [mask for own in masks for mask in own]
    contested = [mask for own in masks if (mask := contested_mask(own)) is not None]
    if not claimed or not contested:
        return 0.0
    either = float(coco_mask.area(coco_mask.merge(contested)))
    both = float(coco_mask.area(coco_mask.merge(contested, intersect=True))) if len(contested) == len(masks) else 0.0
    return (either - both) / max(float(coco_mask.area(coco_mask.merge(claimed))), 1.0)


def most_changed(images: Sequence[Compared], count: int) -> list[Compared]:
    """The ``count`` images with the largest ``change``, largest first; of equal ones the earlier."""
    return sorted(images, key=lambda compared: -change(compared))[:count]


def mean_shares(images: Sequence[Compared]) -> tuple[float, float]:
    """Mean over images of the share of contested pixels, for the first and the second checkpoint."""
    first, second = ([contested_share(masks_of(compared.shown[side])) for compared in images] for side in (0, 1))
    return sum(first) / max(len(first), 1), sum(second) / max(len(second), 1)
