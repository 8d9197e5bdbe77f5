"""Boxes as corners, as distances to their sides, and as rasters.

Legend: G boxes, ... any leading shape; boxes are xyxy in pixels; ltrb are distances to the left, top, right and bottom side.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ltrb_to_boxes(locations: Tensor, ltrb_px: Tensor) -> Tensor:
    """Corners from distances; ``ltrb_to_boxes(p, boxes_to_ltrb(p, b)) == b``.

    Args:
        locations: ``(..., 2)`` (x, y) in pixels.
        ltrb_px: ``(..., 4)`` in pixels, of a shape that broadcasts with ``locations``.

    Returns:
        ``(..., 4)`` xyxy in pixels.
    """
    return torch.cat((locations - ltrb_px[..., :2], locations + ltrb_px[..., 2:]), dim=-1)


def boxes_to_ltrb(locations: Tensor, boxes: Tensor) -> Tensor:
    """Distances from a point to a box's sides, the inverse of ``ltrb_to_boxes``; negative where the point is outside that side.

    Args:
        locations: ``(..., 2)`` (x, y) in pixels.
        boxes: ``(..., 4)`` xyxy in pixels, of a shape that broadcasts with ``locations``.

    Returns:
        ``(..., 4)`` left, top, right, bottom in pixels.
    """
    return torch.cat((locations - boxes[..., :2], boxes[..., 2:] - locations), dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes ``(..., 4)`` cut to an image of ``size`` = (height, width) pixels; one that lies outside comes back with no area."""
    height, width = size
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack((x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)), dim=-1)


def box_areas(boxes: Tensor) -> Tensor:
    """Width times height of boxes ``(..., 4)`` -> ``(...)``, in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def raster_bounds(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """First pixel inside and first pixel beyond the filled box, for columns and rows.

    The filled box covers the columns from ``int(x0)`` up to but not including ``int(x1 + 1)`` and the rows likewise (AdelaiDet,
    assignment): a box that ends on a whole number covers the pixel that starts there too. ``int`` cuts towards zero.

    Args:
        boxes: ``(..., 4)`` xyxy in pixels.

    Returns:
        ``(first, end)``, each ``(..., 2)`` for (x, y), whole numbers, not cut to any canvas.
    """
    return boxes[..., :2].trunc(), (boxes[..., 2:] + 1).trunc()


def rasterised_centers(boxes: Tensor, padded_size: tuple[int, int]) -> Tensor:
    """Centroid of every filled box on the padded canvas, the centre of FCOS's centre sampling (AdelaiDet, assignment).

    In closed form, per axis with canvas length L: ``first = max(int(low), 0)``, ``end = min(int(high + 1), L)`` and the mean of the pixel
    indices ``first .. end - 1`` is ``(first + end - 1) / 2``. No canvas is drawn.

    Args:
        boxes: ``(G, 4)`` xyxy in pixels.
        padded_size: (height, width) of the padded network input.

    Returns:
        ``(G, 2)`` (x, y); NaN for a box that covers no pixel of the canvas, which no comparison finds near any location.
    """
    height, width = padded_size
    first, end = raster_bounds(boxes)
    first = first.clamp(min=0)
    end = torch.minimum(end, end.new_tensor((width, height)))
    empty = (end <= first).any(dim=-1, keepdim=True)
    return ((first + end - 1) / 2).masked_fill(empty, torch.nan)


def centerness_targets(ltrb: Tensor) -> Tensor:
    """How central a point is in its box: ``sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))`` (FCOS, Eq. 3).

    Args:
        ltrb: ``(..., 4)`` distances, all >= 0, in any unit.

    Returns:
        ``(...)`` in [0, 1]; 0 where the box has no width or no height (the formula's 0 / 0).
    """
    near = torch.minimum(ltrb[..., :2], ltrb[..., 2:])
    far = torch.maximum(ltrb[..., :2], ltrb[..., 2:])
    ratio = torch.where(far > 0, near / far, torch.zeros_like(near))
    return (ratio[..., 0] * ratio[..., 1]).sqrt()
