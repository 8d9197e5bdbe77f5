"""Boxes as corners, as distances to their sides and as filled rectangles of pixels.

torchvision has the rest: ``clip_boxes_to_image``, ``box_area``, ``box_iou``.

Legend: G boxes, ... any leading shape; boxes are xyxy in pixels; ltrb are distances to the left, top, right and bottom side.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ltrb_to_boxes(locations: Tensor, ltrb_px: Tensor) -> Tensor:
    """Return the corners of boxes given by distances: ``ltrb_to_boxes(p, boxes_to_ltrb(p, b)) == b``.

    Args:
        locations: ``(..., 2)`` (x, y) in pixels.
        ltrb_px: ``(..., 4)`` in pixels, broadcastable with ``locations``.

    Returns:
        ``(..., 4)`` xyxy in pixels.
    """
    return torch.cat((locations - ltrb_px[..., :2], locations + ltrb_px[..., 2:]), dim=-1)


def boxes_to_ltrb(locations: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances from a point to a box's sides (FCOS, Eq. 1), the inverse of ``ltrb_to_boxes``.

    Args:
        locations: ``(..., 2)`` (x, y) in pixels.
        boxes: ``(..., 4)`` xyxy in pixels, broadcastable with ``locations``.

    Returns:
        ``(..., 4)`` left, top, right, bottom in pixels; negative if the point lies outside that side.
    """
    return torch.cat((locations - boxes[..., :2], boxes[..., 2:] - locations), dim=-1)


def has_area(boxes: Tensor) -> Tensor:
    """Whether boxes ``(..., 4)`` have a positive width and height, ``(...)`` bool."""
    return (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)


def boxes_touch(a: Tensor, b: Tensor) -> Tensor:
    """Whether boxes ``(n, 4)`` and ``(k, 4)`` share at least a point, ``(n, k)`` bool."""
    first = torch.maximum(a[:, None, :2], b[:, :2])
    last = torch.minimum(a[:, None, 2:], b[:, 2:])
    return (first <= last).all(dim=2)


def raster_bounds(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first pixel inside and the first pixel beyond the filled box, for columns and rows.

    A filled box covers the columns from ``int(x0)`` up to but not including ``int(x1 + 1)``, and the rows likewise, as AdelaiDet
    draws it: a box that ends at a whole number covers the pixel that starts there. ``int`` truncates towards zero.

    Args:
        boxes: ``(..., 4)`` xyxy in pixels.

    Returns:
        ``(first, end)``, each ``(..., 2)`` for (x, y), whole numbers, not clipped to any canvas.
    """
    return boxes[..., :2].trunc(), (boxes[..., 2:] + 1).trunc()


def rasterised_centers(boxes: Tensor, padded_size: tuple[int, int]) -> Tensor:
    """Return the centroid of every filled box on the padded canvas, the centre that centre sampling uses (AdelaiDet).

    It lies up to a pixel from the centre of the box itself. Computed in closed form: on an axis of length L the filled box covers the
    pixels ``first = max(int(low), 0)`` to ``end - 1``, ``end = min(int(high + 1), L)``, whose mean is ``(first + end - 1) / 2``.

    Args:
        boxes: ``(G, 4)`` xyxy in pixels.
        padded_size: (height, width) of the padded network input.

    Returns:
        ``(G, 2)`` (x, y); NaN for a box that covers no pixel of the canvas, so that every comparison with it is false.
    """
    height, width = padded_size
    first, end = raster_bounds(boxes)
    first = first.clamp(min=0)
    end = torch.minimum(end, end.new_tensor((width, height)))
    empty = (end <= first).any(dim=-1, keepdim=True)
    return ((first + end - 1) / 2).masked_fill(empty, torch.nan)


def centerness_targets(ltrb: Tensor) -> Tensor:
    """Return how central a point is in its box: ``sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))`` (FCOS, Eq. 3).

    Args:
        ltrb: ``(..., 4)`` distances >= 0, in any unit.

    Returns:
        ``(...)`` in [0, 1]; 0 for a box without width or height, where the formula is 0 / 0.
    """
    near = torch.minimum(ltrb[..., :2], ltrb[..., 2:])
    far = torch.maximum(ltrb[..., :2], ltrb[..., 2:])
    ratio = torch.where(far > 0, near / far, torch.zeros_like(near))
    return (ratio[..., 0] * ratio[..., 1]).sqrt()
