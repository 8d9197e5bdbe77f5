"""Boxes of annotation files: conversion, clipping and overlap, outside of the network (``ops.boxes`` has the tensors).

Legend: xywh is COCO's [x, y, width, height], xyxy the corners (x0, y0, x1, y1), both in pixels of the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

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
