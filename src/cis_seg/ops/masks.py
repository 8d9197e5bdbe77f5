"""Masks on a coarser grid than the image's.

Legend: N instances, C channels, h w mask grid.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.boxes import raster_bounds


def aligned_bilinear(x: Tensor, factor: int) -> Tensor:
    """Upsample bilinearly so that the value of cell i ends up at ``factor // 2 + factor * i`` (AdelaiDet's ``aligned_bilinear``).

    That is the position of the level's locations; ordinary bilinear upsampling would shift masks against them by half a cell.

    Args:
        x: ``(N, C, h, w)``, any float type.
        factor: integer >= 1.

    Returns:
        ``(N, C, factor * h, factor * w)`` of the type of ``x``.
    """
    assert factor >= 1, f"factor {factor}"
    if factor == 1:
        return x
    h, w = x.shape[-2:]
    # replicate the last row and column, resize to factor * n + 1 with aligned corners, shift by factor // 2, crop to factor * n
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, size=(factor * h + 1, factor * w + 1), mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[..., : factor * h, : factor * w]


def sample_points(n: int, stride: int, device: torch.device | str) -> Tensor:
    """Return the full-size pixel index of every cell of an axis, ``(n,)``: the indices of the slice ``[stride // 2 :: stride]``."""
    return torch.arange(n, device=device) * stride + stride // 2


def touched_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels that share an area with each box, ``(N, H, W)`` bool, for boxes ``(N, 4)`` xyxy and ``size`` (H, W).

    That is the box of a mask in COCO's convention, ``[x, x + width]``; ``box_masks`` covers up to a pixel more, as AdelaiDet does.
    """
    rows, columns = (torch.arange(n, device=boxes.device) for n in size)
    in_rows = (rows + 1 > boxes[:, 1:2]) & (rows < boxes[:, 3:])  # (N, H)
    in_columns = (columns + 1 > boxes[:, 0:1]) & (columns < boxes[:, 2:3])  # (N, W)
    return in_rows[:, :, None] & in_columns[:, None, :]


def box_masks(boxes: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Return the filled boxes, sampled at ``[stride // 2 :: stride]`` in both directions (AdelaiDet).

    Equal to drawing every box at full size (``raster_bounds``) and slicing, but computed from its four numbers.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels of the network's input.
        grid: (h, w) of the mask grid, the padded input's size divided by ``stride``.
        stride: distance between mask cells in pixels.

    Returns:
        ``(N, h, w)`` bool.
    """
    first, end = raster_bounds(boxes)  # (N, 2) each
    columns = sample_points(grid[1], stride, boxes.device)
    rows = sample_points(grid[0], stride, boxes.device)
    in_columns = (columns >= first[:, :1]) & (columns < end[:, :1])  # (N, w)
    in_rows = (rows >= first[:, 1:]) & (rows < end[:, 1:])  # (N, h)
    return in_rows[:, :, None] & in_columns[:, None, :]
