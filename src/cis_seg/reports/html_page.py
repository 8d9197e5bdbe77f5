"""The HTML page: curves, tables, pictures and configs of the compared runs in one self-contained text."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from PIL import Image, UnidentifiedImageError

from cis_seg.config.plain import CONFIG, read_plain
from cis_seg.errors import DataError
from cis_seg.reports.groups import Group
from cis_seg.reports.html_parts import LOGS, Line, chart, read_curves, style
from cis_seg.reports.markdown_tables import document
from cis_seg.reports.runs import Run

MAX_SIDE = 2048  # px; covers the overlays of a run (1936), whose small print resampling would blur
QUALITY = 85  # of JPEG: outlines stay sharp, and the page takes a sixth of the size that PNG would need
OVERLAYS = "overlays/latest.png"
#: heading -> prefixes of the names of the curves shown below it, in this order
CHARTS = {
    "Validation": ("val/segm_", "val/bbox_", "val/"),
    "Scores on the training images": ("train_set/segm_", "train_set/bbox_", "train_set/"),
    "Losses": ("train/loss",),
    "Weighted losses": ("train_weighted/",),
    "Training": ("train/", ""),
}
#: a copy of the AP, and constants that are stated above the tables
NOT_DRAWN = ("val/score", "val/floor_", "train_set/floor_")
MAX_NAMES = 3  # experiments in the title; the legend lists all of them

#: only the blocks that the tables use: a run's name must never become a link, an image or a tag
_MARKDOWN = MarkdownIt("zero").enable(["heading", "list", "table"])


def page(groups: Sequence[Group], skipped: Sequence[str], figures: Sequence[Path] = ()) -> str:
    """Return the HTML page of the compared runs.

    Args:
        groups: output of :func:`cis_seg.reports.groups.grouped`.
        skipped: one sentence for each folder that was skipped.
        figures: pictures to show before the overlays of the runs, such as figure4.png.

    Raises:
        DataError: a log, config or picture is corrupt.
    """
    names = list(dict.fromkeys(group.first.name for group in groups))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    title = escape(f"cis_seg: {', '.join(names[:MAX_NAMES])}{more}")
    sections = {
        "Curves": _legend(groups) + _curves(groups),
        "Tables": to_html(document(groups, skipped)),
        "Pictures": "".join(picture(path, path.name) for path in figures) + _overlays(groups),
        "Configs": _configs(groups),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    main = "".join(f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>' for name, content in sections.items())
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = f"<header><h1>{title}</h1><nav>{links}</nav></header><main>{main}</main>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{style(len(groups))}</style></head><body>{body}</body></html>\n'


def to_html(markdown: str) -> str:
    """Render the Markdown of the tables below a section's heading: its headings move down one level, tables scroll sideways."""
    html: str = _MARKDOWN.render(markdown).replace("<h2>", "<h3>").replace("</h2>", "</h3>")
    return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{_cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(path: Path, title: str) -> str:
    """Return a ``<figure>`` that embeds the picture; it fits the page, and a click shows it at full size.

    Raises:
        DataError: the file is not a picture.
    """
    shown = f'<label><input type="checkbox"><img alt="{escape(title)}" src="{data_uri(path)}"></label>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{shown}</figure>"


def data_uri(path: Path) -> str:
    """Return the picture as a base64 JPEG, reduced to a width of ``MAX_SIDE``."""
    try:
        with Image.open(path) as image:
            reduced = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        expected = "PNG or JPEG (figure4.png, not figure4.pdf)"
        raise DataError("a picture cannot be read", where=path, expected=expected, found=error, remedy="leave it out") from error
    reduced.thumbnail((MAX_SIDE, MAX_SIDE * 4))  # a figure with many rows may be tall; only its width must fit the page
    stored = io.BytesIO()
    reduced.save(stored, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode("ascii")


def _cells(row: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)


def _lambda(run: Run) -> str:
    return f", lambda {run.weight:g}" if run.weight else ""


def _label(run: Run) -> str:
    return f"{run.name}, seed {run.seed}{_lambda(run)}"


def _legend(groups: Sequence[Group]) -> str:
    """Return one checkbox per experiment; CSS alone shows and hides its lines."""
    boxes = [
        f'<label class="c{index}"><input type="checkbox" checked id="show{index}">'
        f'<svg viewBox="0 0 34 8"><line x1="0" x2="34" y1="4" y2="4"/></svg>'
        f"<span>{escape(group.first.name)}{_lambda(group.first)} "
        f"<small>{len(group.runs)} seed{'s' * (len(group.runs) > 1)}</small></span></label>"
        for index, group in enumerate(groups)
    ]
    return f'<p class="legend">{"".join(boxes)}</p>'


def _curves(groups: Sequence[Group]) -> str:
    """Return one chart per logged value, under headings, and a list of the runs without a log."""
    lines: dict[str, list[Line]] = {}
    without = []
    for index, run in ((index, run) for index, group in enumerate(groups) for run in group.runs.values()):
        curves = read_curves(run.path)
        if not curves:
            without.append(f"<li>{escape(_label(run))} has no CSV log ({escape(str(run.path / LOGS))}), so no curves: use logger=csv</li>")
        for name, curve in curves.items():
            if not name.startswith(NOT_DRAWN):
                lines.setdefault(name, []).append(Line(_label(run), index, curve))
    parts = []
    for heading, prefixes in CHARTS.items():
        names = [name for prefix in prefixes for name in sorted(lines) if name.startswith(prefix)]
        charts = [chart(name, lines.pop(name)) for name in dict.fromkeys(names)]
        parts += [f'<h3>{heading}</h3><div class="charts">{"".join(charts)}</div>'] if charts else []
    return "".join(parts) + (f'<ul class="note">{"".join(without)}</ul>' if without else "")


def _overlays(groups: Sequence[Group]) -> str:
    """Return the overlays of each run's last validation; those of each experiment's first seed are expanded."""
    parts = []
    for group in groups:
        for run in group.runs.values():
            path, title = run.path / OVERLAYS, f"ground truth and predictions of {_label(run)} after {run.steps} steps"
            shown = picture(path, title) if path.is_file() else "no overlays"
            is_open = " open" if run is group.first else ""
            parts.append(f"<details{is_open}><summary>{escape(_label(run))}</summary>{shown}</details>")
    return "".join(parts)


def _configs(groups: Sequence[Group]) -> str:
    """Return a table of the differing keys, and every config in full."""
    runs = [run for group in groups for run in group.runs.values() if (run.path / CONFIG).is_file()]
    configs = {name: [read_plain(run.path / CONFIG) for run in runs if run.name == name] for name in dict.fromkeys(r.name for r in runs)}
    rows = [[key, *row.values()] for key, row in differences(configs).items()]
    overview = table(["key", *configs], rows) if rows else "<p>All keys are equal.</p>"
    texts = [(run, escape((run.path / CONFIG).read_text(encoding="utf-8"))) for run in runs]
    return overview + "".join(
        f"<details><summary>{escape(_label(run))}: {CONFIG}</summary><pre>{text}</pre></details>" for run, text in texts
    )


ABSENT = "(absent)"  # a key unknown to the version that wrote the config


def differences(configs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, dict[str, str]]:
    """Return the keys whose values differ between experiments.

    The run folder and the seed number inside paths are ignored, because they differ for every run.

    Args:
        configs: experiment -> the configs of its seeds, as plain containers.

    Returns:
        Dotted key -> experiment -> value; different values of the seeds are joined by commas.
    """
    flat = {name: [flattened(config) for config in seeds] for name, seeds in configs.items()}
    keys = dict.fromkeys(key for seeds in flat.values() for config in seeds for key in config if key not in ("name", "seed"))
    rows = {
        key: {name: ", ".join(dict.fromkeys(config.get(key, ABSENT) for config in seeds)) for name, seeds in flat.items()} for key in keys
    }
    return {key: row for key, row in rows.items() if len(set(row.values())) > 1}


def flattened(config: dict[str, Any]) -> dict[str, str]:
    """Return ``{"a": {"b": 1}}`` as ``{"a.b": "1"}``, with the run folder and the seed in paths masked; lists stay whole."""
    run, seed = str((config.get("paths") or {}).get("run") or ""), str(config.get("seed"))
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in _leaves(config)}
    return {key: (text.replace(run, "RUN") if run else text).replace(f"/seed{seed}/", "/seed*/") for key, text in texts.items()}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _leaves(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
