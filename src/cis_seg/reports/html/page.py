"""The page: summary, curves, tables, pictures, configs; one text, complete in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cis_seg.config.plain import CONFIG, read_plain
from cis_seg.errors import DataError
from cis_seg.reports.html.charts import Line, chart
from cis_seg.reports.html.logs import LOGS, differences, read_curves
from cis_seg.reports.html.style import style
from cis_seg.reports.tables.groups import Group
from cis_seg.reports.tables.markdown import document
from cis_seg.reports.tables.runs import Run

LONGEST = 2048  # px; longer side at most: as a run draws its overlays (1936), whose small print a resampling would blur
QUALITY = 85  # of JPEG: outlines stay sharp, and a page takes a sixth of what PNG takes


def picture(path: Path, title: str) -> str:
    """An ``<figure>`` with the picture itself in it: as wide as the page, and on a click as large as it is, for its small print.

    Raises:
        DataError: no picture.
    """
    shown = f'<label><input type="checkbox"><img alt="{escape(title)}" src="{data_uri(path)}"></label>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{shown}</figure>"


def data_uri(path: Path) -> str:
    """The picture as JPEG, reduced to ``LONGEST``, in base64."""
    try:
        with Image.open(path) as image:
            reduced = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            "a picture cannot be read", where=path, expected="PNG or JPEG (of figure4 the PNG)", found=error, remedy="leave it out"
        ) from error
    reduced.thumbnail((LONGEST, LONGEST * 4))  # a page of many rows may be tall: its width is what must fit
    stored = io.BytesIO()
    reduced.save(stored, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode("ascii")


def to_html(markdown: str) -> str:
    """Blocks are divided by empty lines; text is escaped, so that no run's name becomes a tag."""
    return "\n".join(_block(block.splitlines()) for block in markdown.strip().split("\n\n") if block.strip())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are text."""
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{_cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _block(lines: Sequence[str]) -> str:
    if lines[0].startswith("## "):
        return f"<h3>{escape(lines[0][3:])}</h3>"
    if lines[0].startswith("|"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return table(rows[0], rows[2:])  # rows[1] is the rule
    if lines[0].startswith("- "):
        return "<ul>" + "".join(f"<li>{escape(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{escape(' '.join(lines))}</p>"


def _cells(row: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)


OVERLAYS = "overlays/latest.png"
#: heading -> beginnings of the names of the logged figures below it, in this order
CHARTS = {
    "Validation": ("val/segm_", "val/bbox_", "val/"),
    "Scores of the images trained on": ("train_set/segm_", "train_set/bbox_", "train_set/"),
    "Losses": ("train/loss",),
    "Losses as they are summed": ("train_weighted/",),
    "Training": ("train/", ""),
}
#: a copy of the AP, and constants that stand above the tables
NOT_DRAWN = ("val/score", "val/floor_", "train_set/floor_")
NAMED = 3  # experiments in the title: the legend has them all


def page(groups: Sequence[Group], left_out: Sequence[str], figures: Sequence[Path] = ()) -> str:
    """The HTML of the compared runs.

    Args:
        groups: as ``cis_seg.reports.tables.groups.grouped`` makes them.
        left_out: a sentence for each folder that was left out.
        figures: pictures to show beside the runs' own overlays, such as figure4.png.
    Raises:
        DataError: a damaged log, config or picture.
    """
    title = f"cis_seg: {_title(list(dict.fromkeys(group.first.name for group in groups)))}"
    parts = [
        _section("Curves", _legend(groups) + _curves(groups)),
        _section("Tables", to_html(document(groups, left_out))),
        _section("Pictures", "".join(picture(path, path.name) for path in figures) + _overlays(groups)),
        _section("Configs", _configs(groups)),
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{style(len(groups))}</style>"
    )
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in ("Curves", "Tables", "Pictures", "Configs"))
    body = f"<header><h1>{escape(title)}</h1><nav>{links}</nav></header><main>{''.join(parts)}</main>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _title(names: Sequence[str]) -> str:
    """What is compared, in a line."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _section(name: str, content: str) -> str:
    return f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>'


def _runs(groups: Sequence[Group]) -> list[tuple[int, Run]]:
    """Every run with the place of its group."""
    return [(place, run) for place, group in enumerate(groups) for run in group.runs.values()]


def _label(run: Run) -> str:
    return f"{run.name}, seed {run.seed}" + (f", lambda {run.weight:g}" if run.weight else "")


def _legend(groups: Sequence[Group]) -> str:
    """A box to tick an experiment: CSS alone shows and hides its lines."""
    boxes = [
        f'<label class="c{place}"><input type="checkbox" checked id="show{place}">'
        f'<svg viewBox="0 0 34 8"><line x1="0" x2="34" y1="4" y2="4"/></svg>'
        f"<span>{escape(group.first.name)}{f', lambda {group.first.weight:g}' if group.first.weight else ''} "
        f"<small>{len(group.runs)} seed{'s' * (len(group.runs) > 1)}</small></span></label>"
        for place, group in enumerate(groups)
    ]
    return f'<p class="legend">{"".join(boxes)}</p>'


def _curves(groups: Sequence[Group]) -> str:
    """All logged figures under their headings, each in one chart, and which runs have no log."""
    figures: dict[str, list[Line]] = {}
    without = []
    for place, run in _runs(groups):
        curves = read_curves(run.path)
        if not curves:
            without.append(f"<li>{escape(_label(run))} has no CSV log ({escape(str(run.path / LOGS))}), so no curves: use logger=csv</li>")
        for name, curve in curves.items():
            figures.setdefault(name, []).append(Line(_label(run), place, curve))
    parts = []
    figures = {name: lines for name, lines in figures.items() if not name.startswith(NOT_DRAWN)}
    for heading, prefixes in CHARTS.items():
        names = [name for prefix in prefixes for name in sorted(figures) if name.startswith(prefix)]
        charts = [chart(name, figures.pop(name)) for name in dict.fromkeys(names)]
        parts += [f'<h3>{heading}</h3><div class="charts">{"".join(charts)}</div>'] if charts else []
    return "".join(parts) + (f'<ul class="note">{"".join(without)}</ul>' if without else "")


def _overlays(groups: Sequence[Group]) -> str:
    """The last validation's pictures of each run; of each experiment those of the first seed are open."""
    parts = []
    for group in groups:
        for run in group.runs.values():
            path = run.path / OVERLAYS
            there = path.is_file()
            shown = picture(path, f"truth and prediction of {_label(run)} after {run.steps} steps") if there else "no overlays"
            opened = " open" if run is group.first else ""
            parts.append(f"<details{opened}><summary>{escape(_label(run))}</summary>{shown}</details>")
    return "".join(parts)


def _configs(groups: Sequence[Group]) -> str:
    """A table of what differs, and every config whole."""
    there = [run for _, run in _runs(groups) if (run.path / CONFIG).is_file()]
    configs = {name: [read_plain(run.path / CONFIG) for run in there if run.name == name] for name in dict.fromkeys(r.name for r in there)}
    rows = [[key, *row.values()] for key, row in differences(configs).items()]
    told = table(["differs", *configs], rows) if rows else "<p>No key differs.</p>"
    texts = [(run, escape((run.path / CONFIG).read_text(encoding="utf-8"))) for run in there]
    whole = [f"<details><summary>{escape(_label(run))}: {CONFIG}</summary><pre>{text}</pre></details>" for run, text in texts]
    return told + "".join(whole)
