"""Figure 4: two checkpoints beside the ground truth; pixels that the masks of two or more people claim (contested pixels) are striped.

Legend: n masks of one image of H W pixels; a view is the image at the size at which it is drawn, (h, w, 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cis_seg.coco import rle
from cis_seg.structures import RLE
from cis_seg.visualization.drawing import Drawing, Pixels, draw_instances, fitted_mask, neighbour_colors

PERIOD, LINE = 9, 2  # px of a view: white and black stripes of 2 px every 9 px, so that people stay visible between them
LIGHT, DARK = (255, 255, 255), (0, 0, 0)  # both, because masks and photos use every other colour


@dataclass(frozen=True)
class Compared:
    """One image and the detections of both checkpoints."""

    index: int  # within the data set
    image_id: int
    shown: tuple[Sequence[Drawing], Sequence[Drawing]]  # by the first and the second checkpoint; each drawing has a mask


def masks_of(drawings: Sequence[Drawing]) -> list[Any]:
    """Return the run-length codes of people; ignore regions claim nothing."""
    return [drawing.mask for drawing in drawings if drawing.mask is not None and not drawing.crowd]


def contested_mask(masks: Sequence[Mapping[str, Any]]) -> RLE | None:
    """Return the pixels in two or more of n run-length codes, without decoding them; None if there are no masks."""
    if not masks:
        return None
    height, width = masks[0]["size"]
    claimed: Mapping[str, Any] = masks[0]
    contested = rle.empty((height, width))
    for mask in masks[1:]:
        both = rle.merge([claimed, mask], intersect=True)
        claimed, contested = rle.merge([claimed, mask]), rle.merge([contested, both])
    return contested


def contested_share(masks: Sequence[Mapping[str, Any]]) -> float:
    """Return contested over claimed pixels, 0 to 1; 0 if nothing is claimed."""
    contested = contested_mask(masks)
    claimed = float(rle.area(rle.merge(masks))) if masks else 0.0
    return 0.0 if contested is None or not claimed else float(rle.area(contested)) / claimed


def mark_contested(view: Pixels, masks: Sequence[Mapping[str, Any]]) -> Pixels:
    """Return a copy of ``view`` whose contested pixels are grey with black and white stripes."""
    contested = contested_mask(masks)
    marked = view.copy()
    if contested is None or not rle.area(contested):
        return marked
    inside = fitted_mask(contested, (view.shape[0], view.shape[1])) > 0
    marked[inside] = view[inside].mean(axis=1, keepdims=True).astype(np.uint8)  # no instance is grey
    rows, columns = np.indices(inside.shape)
    phase = (rows + columns) % PERIOD
    marked[inside & (phase < LINE)] = LIGHT
    marked[inside & (phase >= LINE) & (phase < 2 * LINE)] = DARK
    return marked


def change(compared: Compared) -> float:
    """Return the pixels contested for one checkpoint but not for the other, over all claimed pixels, 0 to 1.

    The measure is symmetric, so that the selected images do not favour one of the checkpoints.
    """
    masks = [masks_of(drawings) for drawings in compared.shown]
    claimed = [mask for own in masks for mask in own]
    contested = [mask for own in masks if (mask := contested_mask(own)) is not None]
    if not claimed or not contested:
        return 0.0
    either = float(rle.area(rle.merge(contested)))
    both = float(rle.area(rle.merge(contested, intersect=True))) if len(contested) == len(masks) else 0.0
    return (either - both) / max(float(rle.area(rle.merge(claimed))), 1.0)


def most_changed(images: Sequence[Compared], count: int) -> list[Compared]:
    """Return the ``count`` images with the largest ``change``, largest first; ties keep their order."""
    return sorted(images, key=lambda compared: -change(compared))[:count]


def mean_shares(images: Sequence[Compared]) -> tuple[float, float]:
    """Return the mean share of contested pixels over all images, for the first and the second checkpoint."""
    first, second = ([contested_share(masks_of(compared.shown[side])) for compared in images] for side in (0, 1))
    return sum(first) / max(len(first), 1), sum(second) / max(len(second), 1)


PANEL_INCHES = 3.6  # three panels fill a page width of 11 inches
TITLE_INCHES = 0.3  # height of a row's notes, of the legend, and of the caption
MAX_SIDE = 1280  # px; maximum longer side of a panel: 355 dpi when printed at 3.6 inches
DPI = 170
LEGEND = "pixels claimed by two or more people"


@dataclass(frozen=True)
class Panel:
    """One picture and the note below it."""

    view: Pixels  # (h, w, 3) uint8
    note: str


def panels(image: Pixels, compared: Compared, ground_truth: Sequence[Drawing]) -> list[Panel]:
    """Return the panels of both checkpoints and of the ground truth; a person has the same colour in all three."""
    gt_colors = neighbour_colors(ground_truth)
    predicted = [(drawings, neighbour_colors(drawings, ground_truth, gt_colors)) for drawings in compared.shown]
    return [_panel(image, drawings, colors) for drawings, colors in [*predicted, (ground_truth, gt_colors)]]


def draw_page(rows: dict[int, list[Panel]], titles: Sequence[str], caption: str, output: Path) -> list[Path]:
    """Write ``figure4.png`` and ``figure4.pdf``.

    Args:
        rows: image id -> three panels, in page order.
        titles: titles of the three columns.
        caption: text at the bottom of the page.
        output: folder; created if necessary.

    Returns:
        The paths of the two files.
    """
    shapes = [max(panel.view.shape[0] / panel.view.shape[1] for panel in row) for row in rows.values()]
    height = sum(PANEL_INCHES * shape + TITLE_INCHES for shape in shapes) + 2 * TITLE_INCHES
    page = Figure(figsize=(PANEL_INCHES * len(titles), height), layout="constrained", dpi=DPI)
    grid = page.subplots(len(rows), len(titles), squeeze=False, height_ratios=shapes)
    for axes_row, (image_id, row) in zip(grid, rows.items(), strict=True):
        axes_row[0].set_ylabel(f"image {image_id}", fontsize="small")
        for axes, panel in zip(axes_row, row, strict=True):
            axes.imshow(panel.view, interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(panel.note, fontsize="small")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    page.legend(handles=[Patch(facecolor="lightgrey", hatch="/////", label=LEGEND)], loc="outside upper center", frameon=False)
    page.supxlabel(caption, fontsize="small")
    output.mkdir(parents=True, exist_ok=True)
    written = [output / "figure4.png", output / "figure4.pdf"]
    for path in written:
        page.savefig(path, dpi=DPI)
    return written


def _panel(image: Pixels, drawings: Sequence[Drawing], colors: Sequence[int]) -> Panel:
    """Draw one panel without captions and without the boxes of masks, which would hide contested pixels."""
    bare = [replace(drawing, caption="") for drawing in drawings]
    view = draw_instances(image, bare, colors, max_side=MAX_SIDE, boxes=False)
    masks = masks_of(drawings)
    people = sum(not drawing.crowd for drawing in drawings)
    return Panel(mark_contested(view, masks), f"{people} people, {100 * contested_share(masks):.1f} % claimed twice")
