"""Parts of the HTML page: its style sheet, and the training curves as inline SVG."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from cis_seg.errors import DataError

#: one per experiment: Okabe and Ito's palette, which is safe for colour-blind readers, without its yellow (invisible on white)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#777777")
#: for dark mode: lighter, because the palette's blue is too dark on black
DARK_COLORS = ("#2E96E8", "#E56A12", "#00B886", "#DB8FB9", "#A5DCFA", "#F0AE1A", "#A6A6A6")

_SHARED = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0; }
header, main { max-width: 1340px; margin: auto; padding: 0 20px; }
h1 { font-size: 1.5em; overflow-wrap: anywhere; } h2 { border-bottom: 1px solid var(--line); margin-top: 1.8em; }
nav a { margin-right: 1.2em; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 14px; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; } svg .title { font-size: 13px; font-weight: 600; }
svg .grid { stroke: var(--line); } polyline { fill: none; stroke: currentColor; stroke-width: 1.5; } circle { fill: currentColor; }
svg g:hover polyline { stroke-width: 3.5; }
.legend { position: sticky; top: 0; background: Canvas; padding: 8px 0; z-index: 1; }
.legend label { margin-right: 1.5em; white-space: nowrap; } .legend span { color: CanvasText; }
.legend svg { width: 34px; height: 8px; margin: 0 6px 2px 2px; } .legend line { stroke: currentColor; stroke-width: 3; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: bottom; }
td { white-space: nowrap; }
#configs td { white-space: normal; overflow-wrap: anywhere; min-width: 9em; vertical-align: top; }
#configs td:first-child { white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: Canvas; }
figure { margin: 12px 0; overflow-x: auto; } figcaption { font-weight: 600; margin-bottom: 4px; }
img { max-width: 100%; cursor: zoom-in; } figure input { position: absolute; opacity: 0; }
figure input:checked + img { max-width: none; cursor: zoom-out; }
summary { cursor: pointer; margin: 6px 0; } pre { overflow-x: auto; border: 1px solid var(--line); padding: 10px; }
small, .note { opacity: 0.75; }
@media print { nav, input { display: none; } .legend { position: static; } }
"""
#: step -> value, ordered by step
Curve = dict[int, float]
LOGS = "csv/version_*/metrics.csv"
STEP, NOT_CURVES = "step", ("step", "epoch")


def style(experiments: int) -> str:
    """Return the style sheet for a number of experiments. Their lines are all different: seven colours, then the same ones dashed."""
    return _SHARED + "\n".join(_experiment_style(index) for index in range(experiments)) + "\n"


def dashes(turn: int) -> str:
    """Return the dash pattern of the ``turn``-th use of a colour: solid, dashed, dash-dot, dash-dot-dot ..."""
    return "none" if turn == 0 else " ".join(["8 3", *["2 3"] * (turn - 1)])


def _experiment_style(index: int) -> str:
    """Return the colour and dash pattern of an experiment, and the rule by which its checkbox hides its lines."""
    turn, color = divmod(index, len(COLORS))
    return (
        f".c{index} {{ color: {COLORS[color]}; stroke-dasharray: {dashes(turn)}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ .c{index} {{ color: {DARK_COLORS[color]}; }} }}\n"
        f"body:has(#show{index}:not(:checked)) .charts .c{index} {{ display: none; }}"
    )


def read_curves(run: Path) -> dict[str, Curve]:
    """Return the logged values of a run by name (``train/loss_box``, ``val/segm_AP`` ...); empty if there is no CSV log.

    A run that was resumed may have several logs. If two of them contain the same step, the later log wins.

    Raises:
        DataError: a log has no step column, or a value is not a number.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run.glob(LOGS), key=lambda path: (len(path.parent.name), path.parent.name)):  # version_2 before version_10
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                _add(curves, row, where=f"{path}, line {line}")
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _add(curves: dict[str, Curve], row: dict[str, str], where: str) -> None:
    """Add one row of a log. Most cells are empty, because values are logged at different intervals."""
    try:
        step = int(float(row[STEP]))
        values = {name: float(text) for name, text in row.items() if name not in NOT_CURVES and text}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a log cannot be read",
            where=where,
            expected="a CSV file as written by Lightning's CSVLogger, with a step column",
            found=error,
            remedy="move the corrupt log away; the page then reports that the run has none",
        ) from error
    for name, value in values.items():
        if math.isfinite(value):
            curves.setdefault(name, {})[step] = value


WIDTH, HEIGHT = 420, 250  # px; three charts side by side on a common screen
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 24  # px around the plot area, for tick labels and the title
TICKS = 5  # approximate number per axis
MAX_POINTS = 400  # per line; more would be closer than a pixel

Range = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """The curve of one run."""

    label: str  # display name of the run
    index: int  # of the experiment; selects the colour (class ``c<index>``)
    curve: Curve


def chart(title: str, lines: Sequence[Line]) -> str:
    """Return one ``<svg>`` element; ``lines`` must not be empty."""
    steps = [step for line in lines for step in line.curve]
    values = [value for line in lines for value in line.curve.values()]
    x_ticks, y_ticks = ticks(0, max(steps)), ticks(min(values), max(values))
    x_range, y_range = (0.0, max(*x_ticks, float(max(steps)))), (y_ticks[0], y_ticks[-1])
    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>']
    for tick in y_ticks:
        y = _y(tick, y_range)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text class="tick" x="{_x(tick, x_range):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:g}</text>')
    parts += [_line(line, x_range, y_range) for line in lines if line.curve]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers that cover ``low`` to ``high``, spaced by 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * TICKS >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[tuple[int, float]], max_points: int) -> list[tuple[int, float]]:
    """Return at most ``max_points`` points: means over equally long runs of points, each at the last step of its run."""
    size = math.ceil(len(points) / max_points)
    parts = (points[start : start + size] for start in range(0, len(points), size))
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _line(line: Line, x_range: Range, y_range: Range) -> str:
    """Return a polyline with the last value in its tooltip; a short curve also gets dots."""
    points = thinned(list(line.curve.items()), MAX_POINTS)
    pixels = [(f"{_x(step, x_range):.1f}", f"{_y(value, y_range):.1f}") for step, value in points]
    step, value = points[-1]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y in pixels) if len(pixels) < TICKS * 4 else ""
    tip = f"<title>{escape(line.label)}: {value:.4g} at step {step}</title>"
    return f'<g class="c{line.index}">{tip}<polyline points="{" ".join(map(",".join, pixels))}"/>{dots}</g>'


def _x(step: float, bounds: Range) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (step - bounds[0]) / ((bounds[1] - bounds[0]) or 1.0)


def _y(value: float, bounds: Range) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bounds[0]) / (bounds[1] - bounds[0])
