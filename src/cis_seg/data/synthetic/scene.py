"""Composition of one image of the generated crowd: positions, order and appearance of its people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.data.synthetic.backdrop import TROUSERS, Color, Wardrobe, jittered, paint_backdrop, person_palette, shaded_banks
from cis_seg.data.synthetic.canvas import SCALE, Box, Canvas, Person, dress, outer_box, photograph, visible_people
from cis_seg.data.synthetic.figures import Figure, draw_figure, sample_outfit
from cis_seg.data.synthetic.pose import sample_pose
from cis_seg.data.synthetic.spec import CrowdSpec


@dataclass(frozen=True)
class Scene:
    """One finished image with its ground truth."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    people: tuple[Person, ...]  # farthest first; without people who are fully hidden
    ignore_regions: tuple[Box, ...]  # people-like content: distant groups, statues


@dataclass(frozen=True)
class Stand:
    """The position of a person, in image pixels."""

    x: float  # of the feet
    y: float
    height: float  # of the upright person

    @property
    def drawn(self) -> tuple[tuple[float, float], float]:
        """Position and height in drawing pixels."""
        return (self.x * SCALE, self.y * SCALE), self.height * SCALE


@contextmanager
def _one_thread() -> Iterator[None]:
    """Restrict OpenCV to one thread, because waking others costs more than the many small calls gain."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@_one_thread()
def compose_scene(spec: CrowdSpec, split: int, index: int) -> Scene:
    """Return image ``index`` of split 0 (train) or 1 (val), as a pure function of the arguments."""
    rng = np.random.default_rng([spec.seed, split, index])
    horizon = spec.height * rng.uniform(0.3, 0.5)
    canvas = Canvas(paint_backdrop(rng, spec, horizon))
    regions = _paint_ignored(rng, spec, canvas, horizon) if rng.random() < spec.ignore_probability else ()
    stands = sorted(place_people(rng, spec, horizon), key=lambda stand: stand.y)
    for stand in stands:
        canvas.shadow(*stand.drawn, strength=spec.shadow)
    wardrobe = Wardrobe(spec)
    figures = []
    for number, stand in enumerate(stands, 1):
        figure = _draw_at(rng, stand)
        palette = person_palette(rng, wardrobe, _behind(canvas, stand))
        canvas.paint(figure, dress(rng, spec, figure, palette, stand.height * SCALE), number)
        figures.append(figure)
    return Scene(photograph(rng, spec, canvas.colors), visible_people(figures, canvas.owner), regions)


def place_people(rng: np.random.Generator, spec: CrowdSpec, horizon: float) -> list[Stand]:
    """Place single people and groups in one or two rows, seen by a camera at eye level.

    By perspective, nearer people are larger and stand lower in the image, heads are close to the horizon, feet are often
    below the image, and people at the sides are truncated.
    """
    wanted = int(rng.integers(spec.min_people, spec.max_people + 1))
    eye = rng.uniform(0.84, 0.96)  # camera height above ground, relative to the height of people
    stands: list[Stand] = []
    while len(stands) < wanted:
        size = min(int(rng.integers(1, 6)), wanted - len(stands))
        depth, x = rng.uniform(), spec.width * rng.uniform(-0.02, 0.9)
        for _ in range(size):
            row = float(np.clip(depth + rng.choice([0.0, -0.25]) + rng.normal(0, 0.05), 0, 1))
            adult = spec.min_person_height + row * (spec.max_person_height - spec.min_person_height)
            height = adult * float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12))
            x += adult * rng.uniform(0.22, 0.5) * (1.5 - spec.crowding)
            x = x if x < 1.04 * spec.width else spec.width * rng.uniform(-0.04, 0.3)
            stands.append(Stand(_apart(rng, spec, x, height, stands), horizon + eye * adult, height))
    return stands


def _apart(rng: np.random.Generator, spec: CrowdSpec, x: float, height: float, others: list[Stand]) -> float:
    """Return ``x``, or a nearby position that is not directly behind or in front of another person."""
    gap = (0.3 - 0.16 * spec.crowding) * height
    for attempt in range(12):
        if all(abs(x - other.x) > gap for other in others):
            break
        x = float(np.clip(x + rng.normal(0, 0.12 * height * (1 + attempt)), -0.04 * spec.width, 1.04 * spec.width))
    return x


def _draw_at(rng: np.random.Generator, stand: Stand) -> Figure:
    foot, height = stand.drawn
    return draw_figure(rng, sample_pose(rng), sample_outfit(rng), height, foot)


def _behind(canvas: Canvas, stand: Stand) -> tuple[Color, Color, Color]:
    """Return the mean backdrop colours on both sides of a person, at the height of head, torso and legs."""
    h, w = canvas.owner.shape
    (x, y), height = stand.drawn
    found = []
    for up in (0.92, 0.65, 0.25):
        row = int(np.clip(y - up * height, 0, h - 1))
        left, right = (int(np.clip(x + d * height, 0, w - 1)) for d in (-0.22, 0.22))
        found.append(np.asarray((canvas.colors[row, left] + canvas.colors[row, right]) / 2, np.float32))
    return found[0], found[1], found[2]


def _paint_ignored(rng: np.random.Generator, spec: CrowdSpec, canvas: Canvas, horizon: float) -> tuple[Box, ...]:
    """Paint a distant, blurred group or a statue without owner, and return its box clipped to the image, if any remains."""
    statue = bool(rng.random() < 0.4)
    height = spec.min_person_height * (rng.uniform(0.6, 0.8) if statue else rng.uniform(0.22, 0.32))
    x = rng.uniform(0.05, 0.95 if statue else 0.7) * spec.width
    y = horizon + (0.1 if statue else 0.9) * height
    corners = []
    for _ in range(1 if statue else int(rng.integers(4, 9))):
        figure = _draw_at(rng, Stand(x, y, height))
        tones = rng.choice(np.asarray(TROUSERS, np.float32), 16)
        stone = np.full((16, 3), rng.uniform(120, 170), np.float32)
        palette = shaded_banks(stone if statue else jittered(rng, tones, 10))
        canvas.paint(figure, dress(rng, replace(spec, clothes_texture=0.0), figure, palette, height * SCALE), 0)
        corners.append((figure.left, figure.top, figure.left + figure.parts.shape[1], figure.top + figure.parts.shape[0]))
        x += height * rng.uniform(0.25, 0.5)
    ends = np.array(corners)
    h, w = canvas.owner.shape
    x0, y0 = (int(max(side, 0)) for side in ends[:, :2].min(0))
    x1, y1 = min(int(ends[:, 2].max()), w), min(int(ends[:, 3].max()), h)
    if x0 >= x1 or y0 >= y1:
        return ()
    if not statue:
        canvas.colors[y0:y1, x0:x1] = cv2.GaussianBlur(canvas.colors[y0:y1, x0:x1], (0, 0), 1.5 * SCALE)
    return (outer_box(x0, y0, x1, y1),)
