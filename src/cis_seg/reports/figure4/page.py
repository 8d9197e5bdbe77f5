"""The page of Figure 4: one row per image; two checkpoints and the ground truth as columns; PNG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cis_seg.reports.figure4.contested import Compared, contested_share, mark_contested, masks_of
from cis_seg.visualization.drawing import Drawing, Pixels, draw_instances, neighbour_colors

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
