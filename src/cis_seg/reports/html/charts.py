"""Curves as SVG that stands in the page itself: a line a run, runs of one experiment in one colour, names and values on hovering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from cis_seg.reports.html.logs import Curve

WIDTH, HEIGHT = 420, 250  # px; three charts beside each other on a common screen
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 24  # px around the drawn area, for numbers and title
TICKS = 5  # about as many on each axis
POINTS = 400  # most points of a line: more are narrower than a pixel


@dataclass(frozen=True)
class Line:
    """One run's curve of one figure."""

    label: str  # the run, for people
    place: int  # of its experiment: gives the colour (class ``c<place>``)
    curve: Curve


def chart(title: str, lines: Sequence[Line]) -> str:
    """One ``<svg>``; ``lines`` must not be empty."""
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
    """Round numbers from ``low`` or below to ``high`` or above, 1, 2 or 5 times a power of ten apart."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * TICKS >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, max(last, first + 1) + 1)]


def _line(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """A polyline with its last value in the tooltip; few points get dots."""
    points = thinned(list(line.curve.items()), POINTS)
    places = [f"{_x(step, x_range):.1f},{_y(value, y_range):.1f}" for step, value in points]
    step, value = points[-1]
    dots = "".join('<circle cx="{}" cy="{}" r="2.5"/>'.format(*place.split(",")) for place in places) if len(places) < TICKS * 4 else ""
    tip = f"<title>{escape(line.label)}: {value:.4g} at step {step}</title>"
    return f'<g class="c{line.place}">{tip}<polyline points="{" ".join(places)}"/>{dots}</g>'


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points, each the mean of as many neighbours; their steps are those of the neighbours' last."""
    size = math.ceil(len(points) / most)
    parts: Iterable[Sequence[tuple[int, float]]] = (points[start : start + size] for start in range(0, len(points), size))
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _x(step: float, bounds: tuple[float, float]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (step - bounds[0]) / ((bounds[1] - bounds[0]) or 1.0)


def _y(value: float, bounds: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bounds[0]) / (bounds[1] - bounds[0])
