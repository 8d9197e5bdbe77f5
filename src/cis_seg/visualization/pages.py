"""Numbered PNG pages of panels, one in memory at most; and a panel that shows a training image as the network and the losses receive it.

Legend: H W padded input, h w mask grid, G boxes of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cis_seg.coco import rle
from cis_seg.ops.color import pooled_colors
from cis_seg.ops.masks import box_masks
from cis_seg.structures import RLE, Batch, Target
from cis_seg.visualization.drawing import Box, Drawing, Pixels, contact_sheet, draw_instances, neighbour_colors, resized, side_by_side
from cis_seg.visualization.fonts import class_captions

PER_PAGE, COLUMNS = 6, 2  # six panels of 960 x 560 pixels fill a page of about 1900 x 1700, which fits on a screen


class Pages:
    """``<stem>_000.png``, ``<stem>_001.png``, ... in ``folder``; a context manager that writes the last page on exit.

    Args:
        folder: created if missing; pages of this stem from an earlier call are replaced.
        stem: prefix of the pages' names.
        most: maximum number of pages; None for any number.
    """

    def __init__(self, folder: Path, stem: str, most: int | None = None) -> None:
        self.folder, self.stem, self.most = folder, stem, most
        self.written: list[Path] = []
        self._panels: list[Pixels] = []

    @property
    def wanted(self) -> bool:
        """Whether another panel fits."""
        return self.most is None or len(self.written) < self.most

    def add(self, panel: Pixels) -> None:
        """Add a panel (H, W, 3) to the current page."""
        assert self.wanted, "check `wanted` before drawing a panel"
        self._panels.append(panel)
        if len(self._panels) == PER_PAGE:
            self.turn()

    def turn(self) -> None:
        """Write the current page unless it is empty; the next panel starts a new one."""
        if self._panels:
            path = self.folder / f"{self.stem}_{len(self.written):03d}.png"
            Image.fromarray(contact_sheet(self._panels, columns=COLUMNS)).save(path)
            self.written.append(path)
            self._panels = []

    def __enter__(self) -> Pages:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{self.stem}_[0-9][0-9][0-9].png"):
            old.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.turn()


def batch_panel(batch: Batch, index: int, class_names: Sequence[str], *, mask_stride: int, note: str = "") -> Pixels:
    """Draw one image of a batch: on the left the network's input, on the right the input of the mask losses.

    Left: the padded canvas with the boxes, the masks if the targets have any, and the ignore regions in grey. Right: the mask grid, each
    cell a block of pixels in the colour that the pairwise loss compares (before photometric augmentation), and the boxes rasterised to
    cells as the losses use them (``box_masks``). An instance has the same colour on both sides.

    Args:
        batch: on the CPU.
        index: of the image.
        class_names: name of each label; shown if there are several.
        mask_stride: pixels of the input per cell of the mask grid.
        note: added to the left title.
    """
    target, canvas = batch.targets[index], batch.padded_size
    people, regions = _people(target, canvas, class_names), _regions(target, canvas)
    colors = neighbour_colors(people)
    pixels = np.ascontiguousarray(batch.pixels[index].permute(1, 2, 0).numpy())
    left = draw_instances(pixels, [*regions, *people], [0] * len(regions) + colors)
    grid = _grid_pixels(batch, index, mask_stride)
    right = draw_instances(grid, _grid_boxes(people, target, canvas, mask_stride), colors, size=canvas, boxes=False)
    (height, width), (old_height, old_width) = batch.image_sizes[index], batch.original_sizes[index]
    sizes = f"{old_width} x {old_height} -> {width} x {height} in {canvas[1]} x {canvas[0]}"
    counts = _counts(target) + (f", {len(regions)} ignored" if regions else "")
    cells = f"mask grid, {canvas[1] // mask_stride} x {canvas[0] // mask_stride}"
    return side_by_side([left, right], [f"{batch.image_ids[index]}: {sizes}{note}; {counts}", cells])


def _people(target: Target, canvas: tuple[int, int], class_names: Sequence[str]) -> list[Drawing]:
    masks = (None if target.masks is None else _on_canvas(target.masks[i].numpy(), canvas) for i in range(len(target.boxes)))
    rows = zip(_corners(target.boxes.tolist()), target.labels.tolist(), masks, strict=True)
    captions = class_captions(class_names)
    drawings = [Drawing(box, mask, label, None, captions[label]) for box, label, mask in rows]
    if target.mask_scores is None:
        return drawings
    return [_scored(drawing, score) for drawing, score in zip(drawings, target.mask_scores.tolist(), strict=True)]


def _scored(drawing: Drawing, score: float) -> Drawing:
    """``drawing`` without its mask at a score of 0, and with the score of a noisy mask in its caption."""
    if score in (0, 1):
        return drawing if score else replace(drawing, mask=None)
    return replace(drawing, caption=f"{drawing.caption} {score:.2f}".strip())


def _counts(target: Target) -> str:
    """``5 boxes``, or with scores of masks ``5 boxes, 2 with a true mask, 1 with a noisy mask``."""
    boxes = f"{len(target.boxes)} boxes"
    if target.mask_scores is None:
        return boxes
    true, any_mask = int((target.mask_scores == 1).sum()), int((target.mask_scores > 0).sum())
    return f"{boxes}, {true} with a true mask, {any_mask - true} with a noisy mask"


def _regions(target: Target, canvas: tuple[int, int]) -> list[Drawing]:
    boxes = [] if target.ignore_boxes is None else _corners(target.ignore_boxes.tolist())
    return [Drawing((x, y, right, below), rle.box_mask((x, y, right - x, below - y), canvas), crowd=True) for x, y, right, below in boxes]


def _corners(rows: Sequence[Sequence[float]]) -> list[Box]:
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in rows]


def _on_canvas(mask: NDArray[np.bool_], canvas: tuple[int, int]) -> RLE:
    """A mask of the unpadded image as an RLE of the padded one."""
    padded = np.zeros(canvas, dtype=np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return rle.encode(padded)


def _grid_pixels(batch: Batch, index: int, stride: int) -> Pixels:
    """(H, W, 3): the colours of the mask grid, each cell at the size of its pixels."""
    colors = pooled_colors(batch.clean_pixels[index : index + 1], stride)[0]  # (3, h, w)
    return resized(colors.permute(1, 2, 0).numpy().astype(np.uint8), stride, smooth=False)


def _grid_boxes(people: Sequence[Drawing], target: Target, canvas: tuple[int, int], stride: int) -> list[Drawing]:
    """The boxes of ``people``, filled at the resolution of the grid."""
    filled = box_masks(target.boxes, (canvas[0] // stride, canvas[1] // stride), stride).numpy().astype(np.uint8)  # (G, h, w)
    cells = [rle.encode(mask.repeat(stride, 0).repeat(stride, 1)) for mask in filled]
    return [Drawing(person.box, mask) for person, mask in zip(people, cells, strict=True)]
