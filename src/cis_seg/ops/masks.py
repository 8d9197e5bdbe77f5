"""Masks on a coarser grid than the image's.

Legend: N instances, C channels, h w mask grid.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.boxes import raster_bounds


def aligned_bilinear(x: Tensor, factor: int) -> Tensor:
    """Upsampling after which the first sample of every cell stays where the cell's centre was (AdelaiDet, masks).

    Replicate-pad 1 right and bottom, resize to ``factor * n + 1`` with corners aligned, replicate-pad ``factor // 2`` left and top, cut to
    ``factor * n``. Cell i's value then stands at ``factor // 2 + factor * i``, the place of the level's locations.

    Args:
        x: ``(N, C, h, w)``, any float type.
        factor: whole number of 1 or more.

    Returns:
        ``(N, C, factor * h, factor * w)`` of ``x``'s type.
    """
    assert factor >= 1, f"factor {factor}"
    if factor == 1:
        return x
    h, w = x.shape[-2:]
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, size=(factor * h + 1, factor * w + 1), mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[..., : factor * h, : factor * w]


def sample_points(n: int, stride: int, device: torch.device | str) -> Tensor:
    """Full-size pixel index ``(n,)`` of every cell of one axis: what the slice ``[stride // 2 :: stride]`` picks."""
    return torch.arange(n, device=device) * stride + stride // 2


def box_masks(boxes: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """The filled boxes, sampled at ``[stride // 2 :: stride]`` in both directions (AdelaiDet, BoxInst losses).

    Equal to drawing every box at full size (see ``raster_bounds``) and slicing, but computed from its four numbers.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels of the network's input.
        grid: (h, w) of the mask grid, the padded input's size divided by ``stride``.
        stride: pixels from one mask cell to the next.

    Returns:
        ``(N, h, w)`` bool.
    """
    first, end = raster_bounds(boxes)  # (N, 2) each
    columns = sample_points(grid[1], stride, boxes.device)
    rows = sample_points(grid[0], stride, boxes.device)
    in_columns = (columns >= first[:, :1]) & (columns < end[:, :1])  # (N, w)
    in_rows = (rows >= first[:, 1:]) & (rows < end[:, 1:])  # (N, h)
    return in_rows[:, :, None] & in_columns[:, None, :]
