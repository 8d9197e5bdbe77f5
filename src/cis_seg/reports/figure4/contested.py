"""Contested pixels, which the masks of two or more people claim: as a mask, as a share, and marked in a picture.

Legend: n masks of one image of H W pixels; a view is the image at the size at which it is drawn, (h, w, 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cis_seg.coco import rle
from cis_seg.structures import RLE
from cis_seg.visualization.drawing import Drawing, Pixels, fitted_mask

PERIOD, LINE = 9, 2  # px of a view: white and black stripes of 2 px every 9 px, so that people stay visible between them
LIGHT, DARK = (255, 255, 255), (0, 0, 0)  # both, because masks and photos use every other colour


@dataclass(frozen=True)
class Compared:
    """One image and the detections of both checkpoints."""

    index: int  # within the data set
    image_id: int
    shown: tuple[Sequence[Drawing], Sequence[Drawing]]  # by the first and the second checkpoint; each drawing has a mask


def masks_of(drawings: Sequence[Drawing]) -> list[Any]:
    """Return the run-length codes of people; ignore regions claim nothing."""
    return [drawing.mask for drawing in drawings if drawing.mask is not None and not drawing.crowd]


def contested_mask(masks: Sequence[Mapping[str, Any]]) -> RLE | None:
    """Return the pixels in two or more of n run-length codes, without decoding them; None if there are no masks."""
    if not masks:
        return None
    height, width = masks[0]["size"]
    claimed: Mapping[str, Any] = masks[0]
    contested = rle.empty((height, width))
    for mask in masks[1:]:
        both = rle.merge([claimed, mask], intersect=True)
        claimed, contested = rle.merge([claimed, mask]), rle.merge([contested, both])
    return contested


def contested_share(masks: Sequence[Mapping[str, Any]]) -> float:
    """Return contested over claimed pixels, 0 to 1; 0 if nothing is claimed."""
    contested = contested_mask(masks)
    claimed = float(rle.area(rle.merge(masks))) if masks else 0.0
    return 0.0 if contested is None or not claimed else float(rle.area(contested)) / claimed


def mark_contested(view: Pixels, masks: Sequence[Mapping[str, Any]]) -> Pixels:
    """Return a copy of ``view`` whose contested pixels are grey with black and white stripes."""
    contested = contested_mask(masks)
    marked = view.copy()
    if contested is None or not rle.area(contested):
        return marked
    inside = fitted_mask(contested, (view.shape[0], view.shape[1])) > 0
    marked[inside] = view[inside].mean(axis=1, keepdims=True).astype(np.uint8)  # no instance is grey
    rows, columns = np.indices(inside.shape)
    phase = (rows + columns) % PERIOD
    marked[inside & (phase < LINE)] = LIGHT
    marked[inside & (phase >= LINE) & (phase < 2 * LINE)] = DARK
    return marked


def change(compared: Compared) -> float:
    """Return the pixels contested for one checkpoint but not for the other, over all claimed pixels, 0 to 1.

    The measure is symmetric, so that the selected images do not favour one of the checkpoints.
    """
    masks = [masks_of(drawings) for drawings in compared.shown]
    claimed = [mask for own in masks for mask in own]
    contested = [mask for own in masks if (mask := contested_mask(own)) is not None]
    if not claimed or not contested:
        return 0.0
    either = float(rle.area(rle.merge(contested)))
    both = float(rle.area(rle.merge(contested, intersect=True))) if len(contested) == len(masks) else 0.0
    return (either - both) / max(float(rle.area(rle.merge(claimed))), 1.0)


def most_changed(images: Sequence[Compared], count: int) -> list[Compared]:
    """Return the ``count`` images with the largest ``change``, largest first; ties keep their order."""
    return sorted(images, key=lambda compared: -change(compared))[:count]


def mean_shares(images: Sequence[Compared]) -> tuple[float, float]:
    """Return the mean share of contested pixels over all images, for the first and the second checkpoint."""
    first, second = ([contested_share(masks_of(compared.shown[side])) for compared in images] for side in (0, 1))
    return sum(first) / max(len(first), 1), sum(second) / max(len(second), 1)
