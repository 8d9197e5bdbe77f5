"""Boxes of annotation files: conversion, clipping and overlap, outside of the network (``ops.boxes`` has the tensors).

Legend: xywh is COCO's [x, y, width, height], xyxy the corners (x0, y0, x1, y1), both in pixels of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from cis_seg.errors import DataError

Box = tuple[float, float, float, float]


def corners(box: Sequence[float]) -> Box | None:
    """xywh -> xyxy, or None if a side is 0."""
    x, y, width, height = box
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def inside(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of ``box`` (xyxy) inside an image of (height, width), or None if that is empty."""
    height, width = size
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def clipped(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``boxes`` (G, 4) xyxy clipped to an image of ``height`` x ``width`` pixels."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))


def nonempty(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the ``boxes`` (G, 4) xyxy have an area -> (G,)."""
    return np.asarray((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))


def box_iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """IoU of two lists of boxes (N, 4) and (K, 4) xywh -> (N, K)."""
    a, b = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (first, second))
    return np.array(coco_mask.iou(a, b, [0] * len(b)), dtype=np.float64) if len(a) and len(b) else np.zeros((len(a), len(b)))


def largest_iou(boxes: ArrayLike) -> NDArray[np.float64]:
    """IoU of each of the boxes (N, 4) xywh with the one that it overlaps most -> (N,), 0 without another box."""
    ious = box_iou(boxes, boxes)
    np.fill_diagonal(ious, 0.0)
    return np.asarray(ious.max(axis=1, initial=0.0))


ORDERED = 0.99  # share with width > x and height > y, as corners always have them
LEAVING, MOSTLY_OUTSIDE = 0.25, 0.1  # shares that leave their image, and that have more than half of their area outside
FAR_OUTSIDE, FAR = 0.75, 0.01  # share of a box outside that puts its centre there too, and share of such boxes for a warning
FEW, MANY = 4, 20  # boxes for a warning, and for an error
UNIT = 0.99  # share of boxes whose four numbers lie within 0..1: smaller than a pixel
_SAMPLED = 20_000  # because shares of more boxes are no more certain, and a start should be fast


def check_format(boxes: Sequence[Sequence[float]], sizes: Sequence[tuple[int, int]], source: Path) -> str | None:
    """Compare the boxes of one annotation file with their images.

    Args:
        boxes: N boxes that should be [x, y, width, height] in pixels.
        sizes: N sizes (height, width) of their images.
        source: the file, for messages.

    Returns:
        A warning if another format is likely, or boxes lie far outside their image; otherwise None.

    Raises:
        DataError: another format is certain.
    """
    step = len(boxes) // _SAMPLED + 1
    written, image = np.array(boxes[::step], dtype=np.float64).reshape(-1, 4), np.array(sizes[::step], dtype=np.float64).reshape(-1, 2)
    kept = (written[:, 2:] > 0).all(axis=1)
    written, image = written[kept], image[kept]
    if not len(written):
        return None
    if ((written >= 0) & (written <= 1)).all(axis=1).mean() >= UNIT:
        raise DataError(
            "the boxes look normalised to 0..1",
            where=source,
            expected="[x, y, width, height] in pixels of the image",
            found=f"{_some(written)}: all numbers lie between 0 and 1, so every box is smaller than a pixel",
            remedy="multiply x and width by the image's width, y and height by its height",
        )
    corners = np.concatenate([written[:, :2], written[:, 2:] - written[:, :2]], axis=1)
    ordered = (corners[:, 2:] > 0).all(axis=1).mean()
    outside, outside_as_corners = _outside(written, image), _outside(corners, image)
    leaving, mostly = (outside > 0).mean(), (outside > 0.5).mean()
    if ordered < ORDERED or leaving < LEAVING or (outside_as_corners > 0).mean() > leaving / 2 or len(written) < FEW:
        return _far_outside(written[(outside > FAR_OUTSIDE) & (outside < 1)], len(written))
    found = f"{_some(written)}: {100 * leaving:.0f} % of the boxes leave their image as [x, y, width, height], but fit as [x0, y0, x1, y1]"
    remedy = "write width = x1 - x0 and height = y1 - y0"
    if len(written) >= MANY and mostly >= MOSTLY_OUTSIDE:
        expected = "[x, y, width, height] in pixels of the image"
        raise DataError("the boxes look like corners [x0, y0, x1, y1]", where=source, expected=expected, found=found, remedy=remedy)
    return f"the boxes may be corners [x0, y0, x1, y1]; found {found}; if so, {remedy}"


def _far_outside(boxes: NDArray[np.float64], total: int) -> str | None:
    """A warning of boxes far outside their image if they are many among ``total``; those without a pixel inside are left out anyway."""
    if total < FEW or len(boxes) < max(FAR * total, 1):
        return None
    return (
        f"{100 * len(boxes) / total:.0f} % of the boxes have more than three quarters of their area outside their image "
        f"({_some(boxes)}), and are clipped to it; if they were drawn on images of a different size, scale them"
    )


def _outside(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each box's area outside its image -> (N,); a pixel beyond the edge does not count."""
    height, width = sizes.T
    x, y, w, h = boxes.T
    inner_w = np.minimum(x + w, width + 1) - np.maximum(x, -1)
    inner_h = np.minimum(y + h, height + 1) - np.maximum(y, -1)
    return np.asarray(1 - inner_w.clip(0) * inner_h.clip(0) / np.maximum(w * h, 1e-9)).round(6)


def _some(boxes: NDArray[np.float64]) -> str:
    return ", ".join(str([round(float(v), 4) for v in box]) for box in boxes[:2]) + (", ..." if len(boxes) > 2 else "")
