"""Masks on a coarser grid than the image's, and windows of one size around masks of similar size.

Legend: N instances, n instances of a group, C channels, h w mask grid, a b window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.boxes import raster_bounds

#: masks that share a size of window
MASKS_AT_ONCE = 16


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
    if x.requires_grad:
        # the same by two matrix products, because the backward pass of the interpolation takes seven times as long on a CPU
        return _upsampling(h, factor, x) @ (x @ _upsampling(w, factor, x).t())
    # replicate the last row and column, resize to factor * n + 1 with aligned corners, shift by factor // 2, crop to factor * n
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, size=(factor * h + 1, factor * w + 1), mode="bilinear", align_corners=True)
    x = F.pad(x, (factor // 2, 0, factor // 2, 0), mode="replicate")
    return x[..., : factor * h, : factor * w]


def _upsampling(n: int, factor: int, like: Tensor) -> Tensor:
    """Return the weight of each of ``n`` cells of an axis in each of the ``factor * n`` finer cells, ``(factor * n, n)``."""
    cells = torch.arange(n, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    fine = torch.arange(factor * n, device=like.device, dtype=cells.dtype)
    at = ((fine - factor // 2) / factor).clamp(min=0, max=n - 1)
    return (1 - (at[:, None] - cells).abs()).clamp(min=0).to(like.dtype)


def sample_points(n: int, stride: int, device: torch.device | str) -> Tensor:
    """Return the full-size pixel index of every cell of an axis, ``(n,)``: the indices of the slice ``[stride // 2 :: stride]``."""
    return torch.arange(n, device=device) * stride + stride // 2


@dataclass(frozen=True)
class MaskGrid:
    """The cells of the masks of an image at one size; cell i of an axis is the pixel ``stride // 2 + stride * i``."""

    cells: tuple[int, int]  # (h, w), with the padding
    stride: int
    size: tuple[int, int]  # (height, width) of the image in pixels, without padding


def resampled(scores: Tensor, grid: MaskGrid, onto: MaskGrid) -> Tensor:
    """Interpolate masks of an image at one size bilinearly on the grid of the same image at another size.

    Args:
        scores: ``(N, h, w)`` float on ``grid``; beyond the first and the last cell of an axis, these continue.
        grid: the cells of ``scores``.
        onto: the cells of the result.

    Returns:
        ``(N, h', w')`` of the type of ``scores``.
    """
    axes = [
        _relative_places(*axis, grid.stride, onto.stride, scores) for axis in zip(grid.cells, onto.cells, grid.size, onto.size, strict=True)
    ]
    places = torch.stack(torch.meshgrid(axes[1], axes[0], indexing="xy"), dim=-1)  # (h', w', 2), x before y
    return F.grid_sample(scores[None], places[None], padding_mode="border", align_corners=True)[0]


def _relative_places(cells: int, new_cells: int, pixels: int, new_pixels: int, stride: int, new_stride: int, like: Tensor) -> Tensor:
    """Return the places of the new cells of an axis among the old ones, ``(new_cells,)``: -1 is the first one's, 1 the last one's."""
    new = sample_points(new_cells, new_stride, like.device).to(like.dtype)
    old = (new + 0.5) * (pixels / new_pixels) - 0.5  # the centre of a pixel lies half a pixel from its edge
    return 2 * (old - stride // 2) / stride / max(cells - 1, 1) - 1


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


@dataclass(frozen=True)
class Windows:
    """Windows on the map, one around each mask of a group, so that work on masks follows their size and not that of the map."""

    chosen: Tensor  # (n,) int64, the masks
    rows: Tensor  # (n, a) int64
    columns: Tensor  # (n, b) int64

    def cut(self, maps: Tensor, inds: Tensor, *, reach: int = 0) -> Tensor:
        """Return the windows of ``maps``, ``(n, ..., a + 2 reach, b + 2 reach)``.

        Args:
            maps: ``(M, ..., h + 2 reach, w + 2 reach)``, padded by ``reach`` cells on each side.
            inds: ``(n,)`` the map of each window.
            reach: cells by which the windows are widened on each side.
        """
        rows, columns = (
            torch.cat([x, x[:, -1:] + torch.arange(1, 2 * reach + 1, device=x.device)], dim=1) for x in (self.rows, self.columns)
        )
        windows = maps.movedim((-2, -1), (1, 2))[inds[:, None, None], rows[:, :, None], columns[:, None]]
        return windows.movedim((1, 2), (-2, -1))

    def paste(self, windows: Tensor, maps: Tensor) -> None:
        """Write ``windows (n, a, b)`` into the maps ``(N, h, w)`` of their masks, in place."""
        maps[self.chosen[:, None, None], self.rows[:, :, None], self.columns[:, None]] = windows


def windows_around(masks: Tensor, *, at_once: int | None = None, least_side: int = 1) -> list[Windows]:
    """Return windows that contain the masks ``(N, h, w)``, bool; the device is synchronised once.

    Masks of similar height share a group of at most ``at_once``, MASKS_AT_ONCE if None. Masks that extend over fewer than ``least_side``
    rows or columns, such as empty ones, belong to none.
    """
    (h, w), device = masks.shape[-2:], masks.device
    numbers = torch.stack([*_extent(masks.any(dim=2)), *_extent(masks.any(dim=1))], dim=1).tolist()  # the only synchronisation
    sizes = [(row[1], row[3]) for row in numbers]
    filled = sorted((i for i, size in enumerate(sizes) if min(size) >= least_side), key=sizes.__getitem__)
    step = at_once or MASKS_AT_ONCE
    groups = [filled[start : start + step] for start in range(0, len(filled), step)]
    return [_group(group, [numbers[i] for i in group], (h, w), device) for group in groups]


def _group(chosen: Sequence[int], numbers: Sequence[Sequence[int]], size: tuple[int, int], device: torch.device) -> Windows:
    tops, heights, lefts, widths = zip(*numbers, strict=True)
    axes = [
        torch.tensor([min(first, cells - longest) for first in starts])[:, None] + torch.arange(longest)
        for starts, longest, cells in ((tops, max(heights), size[0]), (lefts, max(widths), size[1]))
    ]
    rows, columns = (axis.to(device, non_blocking=True) for axis in axes)
    return Windows(torch.tensor(chosen).to(device, non_blocking=True), rows, columns)


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first used cell of an axis and the number of cells to the last, ``(N,)`` each, for ``used (N, cells)``."""
    cells = torch.arange(1, used.shape[1] + 1, device=used.device)
    first = used.int().argmax(dim=1)
    return first, (used * cells).amax(dim=1) - first
