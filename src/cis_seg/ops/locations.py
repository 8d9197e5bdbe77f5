"""Locations: the points of the image that the cells of the feature pyramid stand for.

Legend: K locations of all levels, h w grid of one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from cis_seg.structures import Locations


def pyramid_locations(grids: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str) -> Locations:
    """Return the locations of all levels, finest level first.

    Args:
        grids: (rows, columns) of each level.
        strides: stride of each level in pixels.
        device: device of the result.
    """
    levels = list(zip(grids, strides, strict=True))
    starts = accumulate((h * w for h, w in grids), initial=0)
    return Locations(
        xy=torch.cat([level_locations(h, w, stride, device) for (h, w), stride in levels]),
        strides=torch.cat([torch.full((h * w,), float(stride), device=device) for (h, w), stride in levels]),
        level_inds=torch.cat([torch.full((h * w,), i, device=device) for i, (h, w) in enumerate(grids)]),
        neighbours=torch.cat([level_neighbours(h, w, start, device) for (h, w), start in zip(grids, starts, strict=False)]),
    )


def level_locations(h: int, w: int, stride: int, device: torch.device | str) -> Tensor:
    """Return the location of every cell of one level.

    Cell i of an axis stands for pixel ``stride // 2 + i * stride``, near the middle of its receptive field (FCOS, section 3.1).

    Args:
        h: rows of the grid.
        w: columns of the grid.
        stride: distance between cells in pixels.
        device: device of the result.

    Returns:
        ``(h * w, 2)`` float32, (x, y) in pixels of the network's input, row by row.
    """
    ys = torch.arange(h, device=device, dtype=torch.float32) * stride + stride // 2
    xs = torch.arange(w, device=device, dtype=torch.float32) * stride + stride // 2
    return torch.stack((xs.expand(h, w), ys.unsqueeze(1).expand(h, w)), dim=2).flatten(0, 1)


def level_neighbours(h: int, w: int, start: int, device: torch.device | str) -> Tensor:
    """Return the 3x3 cells around every cell of one level, in the order of a convolution's weights.

    Args:
        h: rows of the grid.
        w: columns of the grid.
        start: index of the level's first cell among those of all levels.
        device: device of the result.

    Returns:
        ``(h * w, 9)`` int64 indices into all levels, row by row; -1 outside the level.
    """
    cells = F.pad(torch.arange(start, start + h * w, device=device).view(h, w), (1, 1, 1, 1), value=-1)
    return torch.stack([cells[y : y + h, x : x + w] for y in range(3) for x in range(3)], dim=2).flatten(0, 1)
