"""A pixel's neighbours on a grid.

Legend: B batch, C channels, E = size * size - 1 neighbours in row-major order without the centre, h w grid.
The neighbour opposite to neighbour e is E - 1 - e, so the second half of the list contains every edge of the grid once.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
