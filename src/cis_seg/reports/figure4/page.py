"""The page: a row an image, two checkpoints and the truth as its columns, as PNG and as PDF with text that stays text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cis_seg.reports.figure4.contested import Compared, contested_share, mark_contested, masks_of
from cis_seg.visualization.drawing import Drawing, Pixels, draw_instances, neighbour_colors

PANEL_INCHES = 3.6  # three panels a row fill a page's width of 11 inches
TITLE_INCHES = 0.3  # of a row's note and, once, of legend and caption
LONGEST = 1280  # px; longer side of a panel at most: a printed panel of 3.6 inches has 355 dots an inch
DPI = 170
LEGEND = "pixels claimed by two or more people"


@dataclass(frozen=True)
class Panel:
    """One picture and the line below it."""

    view: Pixels  # (h, w, 3) uint8
    note: str


def panels(image: Pixels, compared: Compared, truth: Sequence[Drawing]) -> list[Panel]:
    """First checkpoint, second, truth; a person has one colour in all three."""
    true_colors = neighbour_colors(truth)
    drawn = [(drawings, neighbour_colors(drawings, truth, true_colors)) for drawings in compared.shown]
    return [_panel(image, drawings, colors) for drawings, colors in [*drawn, (truth, true_colors)]]


def draw_page(rows: dict[int, list[Panel]], titles: Sequence[str], caption: str, output: Path) -> list[Path]:
    """Writes ``figure4.png`` and ``figure4.pdf``.

    Args:
        rows: three panels by image id, in the order of the page.
        titles: of the three columns.
        caption: what stands at the bottom.
        output: folder; made if it is not there.
    Returns:
        The files that were written.
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
    """Without captions and, where there is a mask, without boxes: they would hide the pixels that this is about."""
    bare = [replace(drawing, caption="") for drawing in drawings]
    view = draw_instances(image, bare, colors, max_side=LONGEST, boxes=False)
    masks = masks_of(drawings)
    people = sum(not drawing.crowd for drawing in drawings)
    return Panel(mark_contested(view, masks), f"{people} people, {100 * contested_share(masks):.1f} % claimed twice")
