"""Painting of the generated crowd: figures receive colours, folds and patterns and are painted back to front.

Legend: H W image size; the drawing is SCALE x H, SCALE x W; h w size of one figure's part map, in drawing pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.data.synthetic.backdrop import Color, Picture, smooth_noise
from cis_seg.data.synthetic.figures import LINE, Figure, Part
from cis_seg.data.synthetic.spec import CrowdSpec

Box = tuple[int, int, int, int]

MIN_VISIBLE_SHARE = 0.15  # of the whole person; people below are ignored, because a single visible hand cannot be attributed
MIN_VISIBLE_PIXELS = 60  # fewer cover less than four cells of the mask grid used in training


@dataclass(frozen=True)
class Person:
    """The ground truth of one person in a finished scene."""

    visible_box: Box  # tight box around ``mask``
    full_box: Box  # of the whole person, hidden and cut parts included; may leave the image
    head_box: Box  # of the whole head, in the same way
    visible_share: float  # of the pixels of the whole person
    head_share: float  # of the person's pixels inside the head box
    mask: NDArray[np.bool_]  # (H, W) visible pixels; the masks of one scene are disjoint

    @property
    def ignored(self) -> bool:
        """Whether too little is visible to count as a target or an error."""
        return self.visible_share < MIN_VISIBLE_SHARE or int(self.mask.sum()) < MIN_VISIBLE_PIXELS


def outer_box(x0: float, y0: float, x1: float, y1: float) -> Box:
    """Return the smallest integer image box (x, y, w, h) around x0, y0, x1, y1 (exclusive ends) in drawing pixels."""
    left, top = int(np.floor(x0 / SCALE)), int(np.floor(y0 / SCALE))
    return left, top, int(np.ceil(x1 / SCALE)) - left, int(np.ceil(y1 / SCALE)) - top


def visible_people(figures: Sequence[Figure], owner: NDArray[np.uint8]) -> tuple[Person, ...]:
    """Return the people with at least one visible pixel, in painting order.

    Args:
        figures: all people; index n has number n + 1 in ``owner``.
        owner: (SCALE H, SCALE W) number of the person at each pixel, 0 for none.
    """
    masks = _visible_masks(owner, len(figures))
    return tuple(
        _person(figure, mask, owner == number) for number, (figure, mask) in enumerate(zip(figures, masks, strict=True), 1) if mask.any()
    )


def _visible_masks(owner: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Return (count, H, W) masks by majority vote over the drawing pixels; ties go to the background, then to the first painted."""
    h, w = owner.shape[0] // SCALE, owner.shape[1] // SCALE
    samples = np.ascontiguousarray(owner.reshape(h, SCALE, w, SCALE).transpose(1, 3, 0, 2)).reshape(SCALE**2, h, w)
    votes = np.stack([(samples == number).sum(0, dtype=np.uint8) for number in range(count + 1)])
    winner = votes.argmax(0)
    return np.stack([winner == number for number in range(1, count + 1)])


def _person(figure: Figure, mask: NDArray[np.bool_], mine: NDArray[np.bool_]) -> Person:
    h, w = figure.parts.shape
    x, y, box_w, box_h = (int(side) for side in cv2.boundingRect(mask.astype(np.uint8)))
    share = float(mask.sum()) * SCALE**2 / float((figure.parts > 0).sum())
    full = outer_box(figure.left, figure.top, figure.left + w, figure.top + h)
    return Person((x, y, box_w, box_h), full, outer_box(*figure.head_box), min(share, 1.0), _head_share(figure, mine), mask)


def _head_share(figure: Figure, mine: NDArray[np.bool_]) -> float:
    """Return the visible share of the person's pixels inside the head box; ``mine`` marks the person's visible drawing pixels."""
    x0, y0, x1, y1 = (int(side) for side in figure.head_box)
    whole = _cut(figure.parts > 0, x0 - figure.left, y0 - figure.top, x1 - figure.left, y1 - figure.top)
    return float(_cut(mine, x0, y0, x1, y1).sum()) / max(float(whole.sum()), 1.0)


def _cut(mask: NDArray[np.bool_], x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    """Return the part of ``mask`` inside a box, which may extend beyond it."""
    return mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]


SCALE = 2  # the drawing is twice as large as the image and then averaged: antialiased edges


class Canvas:
    """The colour and the owner of each pixel of the drawing."""

    def __init__(self, backdrop: Picture) -> None:
        size = (backdrop.shape[1] * SCALE, backdrop.shape[0] * SCALE)
        # (SCALE H, SCALE W, 3) RGB 0..255
        self.colors: Picture = np.asarray(cv2.resize(backdrop, size, interpolation=cv2.INTER_LINEAR), np.float32)
        self.owner: NDArray[np.uint8] = np.zeros(self.colors.shape[:2], np.uint8)  # 0 for none, n for the n-th person

    def paint(self, figure: Figure, colors: Picture, owner: int) -> None:
        """Paint a figure with (h, w, 3) ``colors`` over the drawing, clipped to it."""
        h, w = figure.parts.shape
        y0, x0 = max(figure.top, 0), max(figure.left, 0)
        y1, x1 = max(min(figure.top + h, self.owner.shape[0]), y0), max(min(figure.left + w, self.owner.shape[1]), x0)
        inner = (slice(y0 - figure.top, y1 - figure.top), slice(x0 - figure.left, x1 - figure.left))
        seen = figure.parts[inner] > 0
        self.colors[y0:y1, x0:x1][seen] = colors[inner][seen]
        self.owner[y0:y1, x0:x1][seen] = owner

    def shadow(self, foot: tuple[float, float], height: float, strength: float) -> None:
        """Darken the ground below a person; ``foot`` and ``height`` in drawing pixels."""
        y = foot[1] - 0.015 * height
        top, bottom = (int(np.clip(y + d * height, 0, self.owner.shape[0])) for d in (-0.12, 0.12))
        if top < bottom:
            soft = np.zeros((bottom - top, self.owner.shape[1]), np.float32)
            cv2.ellipse(soft, ((foot[0], y - top), (0.42 * height, 0.075 * height), 0), strength, -1)
            self.colors[top:bottom] *= 1 - cv2.GaussianBlur(soft, (0, 0), 0.02 * height)[..., None]


def dress(rng: np.random.Generator, spec: CrowdSpec, figure: Figure, palette: Color, height: float) -> Picture:
    """Return (h, w, 3) colours of a figure: its palette with folds, patterns and shading; ``height`` in drawing pixels."""
    parts, strength = figure.parts, spec.clothes_texture * rng.uniform(0.4, 1.6)
    h, w = parts.shape
    kind = parts % LINE  # near, outline and far copies of a part are LINE apart
    cloth = (kind >= Part.SHIRT) & (kind <= Part.SHIN)
    folds = smooth_noise(rng, h, w, 0.09 * height, 0.035 * height)
    shade = 1 + np.where(cloth, 0.10, 0.03) * strength * folds
    solid = cv2.GaussianBlur((parts > 0).astype(np.float32), (0, 0), 0.022 * height)
    shade = shade * (1 - 0.3 * (0.03 + strength) * (1 - solid))
    shade = shade * (1 + 0.08 * (0.1 + strength) * rng.choice([-1, 1]) * np.linspace(-1, 1, w, dtype=np.float32))
    colors = palette[parts] * shade[..., None].astype(np.float32)
    if rng.random() < 0.4 * spec.clothes_texture:
        _print_pattern(rng, colors, kind == Part.SHIRT, 0.04 * height)
    return np.asarray(np.clip(colors, 0, 255), np.float32)


def _print_pattern(rng: np.random.Generator, colors: Picture, where: NDArray[np.bool_], period: float) -> None:
    """Add stripes or checks in place."""
    h, w = where.shape
    wave = np.sin(2 * np.pi * np.arange(h) / period)[:, None] > 0.2
    if rng.random() < 0.35:
        wave = wave ^ (np.sin(2 * np.pi * np.arange(w) / period)[None] > 0.2)
    chosen = where & wave
    colors[chosen] = 0.45 * colors[chosen] + 0.55 * np.asarray(rng.uniform(20, 240, 3), np.float32)


def photograph(rng: np.random.Generator, spec: CrowdSpec, colors: Picture) -> NDArray[np.uint8]:
    """Return the (H, W, 3) image: the drawing downsampled, slightly out of focus, with camera noise."""
    image = cv2.resize(colors, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.35, 0.6)))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(image + spec.grain * noise), 0, 255), np.uint8)
