"""Grids: the points of the image that the cells of the feature pyramid stand for, and the neighbours of a cell.

Legend: K locations of all levels, B batch, C channels, E = size * size - 1 neighbours in row-major order without the centre, h w grid.
The neighbour opposite to neighbour e is E - 1 - e, so the second half of the list contains every edge of the grid once.
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


def neighbour_offsets(size: int, dilation: int) -> tuple[tuple[int, int], ...]:
    """Return (dy, dx) of the E neighbours in a ``size`` x ``size`` window, ``dilation`` cells apart, row-major without the centre.

    Raises:
        ValueError: ``size`` is even or below 3, or ``dilation`` below 1.
    """
    if size < 3 or size % 2 == 0 or dilation < 1:
        expected = "an odd size of 3 or more and a dilation of 1 or more"
        raise ValueError(f"neighbourhood: expected {expected}, got size={size}, dilation={dilation}")
    steps = [dilation * (i - size // 2) for i in range(size)]
    return tuple((dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0))


def shift(x: Tensor, dy: int, dx: int) -> Tensor:
    """Return ``out[..., i, j] = x[..., i + dy, j + dx]``, 0 or False outside the map. Shapes ``(..., h, w)``."""
    out = torch.zeros_like(x)
    overlapping(out, dy, dx)[0].copy_(overlapping(x, dy, dx)[1])
    return out


def overlapping(x: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Return views of ``x (..., h, w)``: the pixels with a neighbour at (dy, dx) on the map, and these neighbours, of one shape."""
    rows, rows_from = _overlap(x.shape[-2], dy)
    columns, columns_from = _overlap(x.shape[-1], dx)
    return x[..., rows, columns], x[..., rows_from, columns_from]


def _overlap(n: int, step: int) -> tuple[slice, slice]:
    """Return the indices i of an axis of length ``n`` for which ``i + step`` is valid too, and those ``i + step``."""
    length = max(n - abs(step), 0)
    here, there = max(-step, 0), max(step, 0)
    return slice(here, here + length), slice(there, there + length)


def gather_neighbours(x: Tensor, size: int, dilation: int) -> Tensor:
    """Return all neighbours of every pixel, 0 outside the map.

    Args:
        x: ``(B, C, h, w)``.
        size: side of the window, odd.
        dilation: distance of the neighbours.

    Returns:
        ``(B, E, C, h, w)``.
    """
    return torch.stack([shift(x, dy, dx) for dy, dx in neighbour_offsets(size, dilation)], dim=1)
