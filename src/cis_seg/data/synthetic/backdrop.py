"""Backdrops of the generated crowd (walls, sky, ground and large soft structures, with grain), and the colours of people relative to them.

Colours are (3,) RGB float arrays, 0..255, unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.data.synthetic.figures import FAR, LINE, Part
from cis_seg.data.synthetic.spec import CrowdSpec

Color = NDArray[np.float32]

SKINS = [(241, 206, 178), (228, 184, 150), (205, 155, 118), (172, 120, 84), (126, 82, 56), (88, 58, 42)]
HAIRS = [(38, 30, 28), (64, 44, 32), (104, 70, 44), (150, 108, 62), (198, 164, 104), (142, 138, 136), (120, 52, 34)]
SHIRTS = [
    (196, 54, 48), (38, 78, 140), (232, 230, 224), (46, 48, 54), (86, 132, 84), (224, 178, 60), (118, 74, 128), (214, 120, 64),
    (120, 168, 200), (150, 150, 148), (226, 160, 170), (60, 110, 112), (118, 38, 46), (206, 196, 160), (90, 92, 104), (34, 56, 84),
]  # fmt: skip
TROUSERS = [
    (48, 62, 94), (82, 102, 136), (44, 44, 48), (120, 112, 96), (172, 156, 124), (96, 74, 58), (108, 110, 114), (38, 50, 44), (28, 30, 38),
]  # fmt: skip
SHOES = [(36, 34, 34), (222, 220, 214), (92, 62, 42), (120, 34, 36), (70, 76, 88)]
LINE_SHADE, FAR_SHADE = 0.84, 0.94  # factors that darken outlines and limbs on the far side
Picture = NDArray[np.float32]


def to_lab(color: Color) -> Color:
    """Convert one RGB colour to CIE Lab."""
    lab = cv2.cvtColor(np.asarray(color, np.float32).reshape(1, 1, 3) / 255, cv2.COLOR_RGB2Lab)
    return np.asarray(lab, np.float32).reshape(3)


def jittered(rng: np.random.Generator, color: Color | tuple[int, int, int], amount: float) -> Color:
    """Return ``color`` with a random change of lightness and half as large a change of tint."""
    change = amount * (rng.standard_normal() + 0.5 * rng.standard_normal(3))
    return np.clip(np.asarray(color, np.float32) + change, 6, 250).astype(np.float32)


@dataclass
class Wardrobe:
    """The garments of the people in one scene, from which others may copy."""

    spec: CrowdSpec
    worn: dict[str, list[Color]] = field(default_factory=dict)

    def pick(self, rng: np.random.Generator, kind: str, choices: list[tuple[int, int, int]], behind: Color) -> Color:
        """Return the colour of a garment; ``behind`` is the colour of the backdrop behind it."""
        worn = self.worn.setdefault(kind, [])
        if rng.random() < self.spec.match_background:
            color = jittered(rng, behind, 1.5)
        elif worn and rng.random() < self.spec.match_neighbour:
            color = jittered(rng, worn[int(rng.integers(len(worn)))], 1.0)
        else:
            color = self.contrasting(rng, choices, behind)
        worn.append(color)
        return color

    def contrasting(self, rng: np.random.Generator, choices: list[tuple[int, int, int]], behind: Color) -> Color:
        """Return the first of 8 random colours that keeps the contrast of the spec, else the most distant one."""
        best, best_distance = np.zeros(3, np.float32), -1.0
        for _ in range(8):
            color = jittered(rng, choices[int(rng.integers(len(choices)))], 9.0)
            distance = float(np.linalg.norm(to_lab(color) - to_lab(behind)))
            if distance > best_distance:
                best, best_distance = color, distance
            if distance >= self.spec.background_contrast:
                break
        return best


def person_palette(rng: np.random.Generator, wardrobe: Wardrobe, behind: tuple[Color, Color, Color]) -> Color:
    """Return (48, 3) colours by part; ``behind`` are the backdrop colours at the height of head, torso and legs."""
    base = np.zeros((16, 3), np.float32)
    skin = wardrobe.contrasting(rng, SKINS, behind[0])
    shirt = wardrobe.pick(rng, "shirt", SHIRTS, behind[1])
    trousers = shirt if rng.random() < wardrobe.spec.one_color else wardrobe.pick(rng, "trousers", TROUSERS, behind[2])
    base[Part.SKIN], base[Part.SHIRT], base[Part.TROUSERS] = skin, shirt, trousers
    base[Part.HAIR] = jittered(rng, HAIRS[rng.integers(len(HAIRS))], 6)
    base[Part.SLEEVE] = skin if rng.random() < 0.4 else shirt
    base[Part.SHIN] = skin if rng.random() < 0.2 else trousers
    base[Part.SHOES] = jittered(rng, SHOES[rng.integers(len(SHOES))], 8)
    base[Part.DETAIL] = 30
    base[Part.HAT] = wardrobe.pick(rng, "hat", SHIRTS, behind[0])
    return shaded_banks(base)


def shaded_banks(base: Color) -> Color:
    """Extend (16, 3) colours to (48, 3): near parts, their outlines (+ LINE) and their far copies (+ FAR)."""
    banks = np.zeros((48, 3), np.float32)
    banks[:16], banks[LINE : LINE + 16], banks[FAR : FAR + 16] = base, LINE_SHADE * base, FAR_SHADE * base
    return banks


@dataclass(frozen=True)
class Place:
    """The colours and possible structures of a kind of place."""

    upper: tuple[tuple[int, int, int], tuple[int, int, int]]  # top and bottom of wall or sky
    lower: tuple[tuple[int, int, int], tuple[int, int, int]]  # ground: far and near
    structures: tuple[str, ...]


PLACES = (
    Place(((150, 186, 220), (204, 218, 226)), ((116, 142, 84), (94, 124, 66)), ("tree", "bush", "post", "bench")),
    Place(((176, 164, 148), (160, 146, 130)), ((132, 130, 128), (112, 110, 110)), ("window", "door", "post", "bench")),
    Place(((206, 198, 180), (192, 182, 164)), ((140, 112, 84), (116, 90, 66)), ("window", "door", "column", "bench")),
    Place(((122, 132, 142), (140, 146, 150)), ((92, 94, 98), (76, 78, 82)), ("window", "column", "post", "door")),
    Place(((164, 200, 224), (222, 228, 224)), ((216, 198, 160), (200, 180, 140)), ("bush", "post", "bench")),
    Place(((150, 88, 72), (134, 76, 62)), ((150, 146, 138), (128, 124, 118)), ("window", "door", "post")),
    Place(((70, 74, 84), (92, 94, 100)), ((62, 60, 62), (48, 46, 50)), ("window", "column", "door")),
    Place(((192, 208, 198), (172, 192, 180)), ((178, 174, 166), (150, 146, 140)), ("column", "door", "window", "bench")),
)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_y: float, cell_x: float) -> NDArray[np.float32]:
    """Return (height, width) noise of about unit variance with a correlation length of ``cell`` pixels."""
    grid = rng.standard_normal((int(height / cell_y) + 4, int(width / cell_x) + 4)).astype(np.float32)
    full = cv2.resize(grid, (int(grid.shape[1] * cell_x), int(grid.shape[0] * cell_y)), interpolation=cv2.INTER_CUBIC)
    y, x = int(cell_y), int(cell_x)
    return np.ascontiguousarray(full[y : y + height, x : x + width])


def paint_backdrop(rng: np.random.Generator, spec: CrowdSpec, horizon: float) -> Picture:
    """Return a random place; ``horizon`` is the row at which the ground begins."""
    place = PLACES[int(rng.integers(len(PLACES)))]
    light = rng.uniform(0.85, 1.1)
    picture = _gradients(rng, spec, place, horizon)
    for _ in range(int(rng.poisson(spec.background_structures))):
        _paint_structure(rng, picture, str(rng.choice(place.structures)), horizon)
    return np.asarray(np.clip(picture * light * _grain(rng, spec, horizon)[..., None], 0, 255), np.float32)


def _gradients(rng: np.random.Generator, spec: CrowdSpec, place: Place, horizon: float) -> Picture:
    upper = [jittered(rng, color, 8) for color in place.upper]
    lower = [jittered(rng, color, 8) for color in place.lower]
    rows = np.arange(spec.height, dtype=np.float32)
    up = np.clip(rows / max(horizon, 1), 0, 1)[:, None]
    down = np.clip((rows - horizon) / max(spec.height - horizon, 1), 0, 1)[:, None]
    edge = np.clip((rows - horizon) / 2 + 0.5, 0, 1)[:, None]
    column = (1 - edge) * (upper[0] + up * (upper[1] - upper[0])) + edge * (lower[0] + down * (lower[1] - lower[0]))
    side = 1 + 0.06 * rng.normal() * np.linspace(-1, 1, spec.width, dtype=np.float32)
    return np.ascontiguousarray(column[:, None] * side[None, :, None], dtype=np.float32)


def _grain(rng: np.random.Generator, spec: CrowdSpec, horizon: float) -> Picture:
    """Return (H, W) factors around 1: clouds or plaster above the horizon, streaks of ground below."""
    strength = spec.background_texture * rng.uniform(0.5, 1.5)
    h, w = spec.height, spec.width
    coarse = smooth_noise(rng, h, w, 48, 64)
    fine = smooth_noise(rng, h, w, 7, 9)
    floor = smooth_noise(rng, h, w, 4, 18)
    ground = (np.arange(h) > horizon)[:, None]
    return np.asarray(1 + strength * (0.07 * coarse + np.where(ground, 0.055 * floor, 0.055 * fine)), np.float32)


def _blend(picture: Picture, box: tuple[float, float, float, float], color: Color, round_: bool, soft: float) -> None:
    """Fill a rectangle or ellipse x0, y0, x1, y1 with ``color``; its edge is ``soft`` pixels wide."""
    h, w = picture.shape[:2]
    alpha = np.zeros((h, w), np.float32)
    x0, y0, x1, y1 = (round(v) for v in box)
    if round_:
        cv2.ellipse(alpha, (((x0 + x1) / 2, (y0 + y1) / 2), (max(x1 - x0, 1), max(y1 - y0, 1)), 0), 1.0, -1)
    else:
        cv2.rectangle(alpha, (x0, y0), (x1, y1), 1.0, -1)
    picture += cv2.GaussianBlur(alpha, (0, 0), soft)[..., None] * (color - picture)


def _paint_structure(rng: np.random.Generator, picture: Picture, kind: str, horizon: float) -> None:
    h, w = picture.shape[:2]
    x, unit = rng.uniform(0, w), h / 240
    dark = np.full(3, rng.uniform(40, 90), np.float32) + jittered(rng, (0, 0, 0), 6)
    if kind == "window":
        y0, y1 = horizon * rng.uniform(0.1, 0.25), horizon * rng.uniform(0.6, 0.8)
        half = rng.uniform(14, 34) * unit
        _blend(picture, (x - half, y0, x + half, y1), jittered(rng, (150, 168, 180), 20), False, 1.2)
        _blend(picture, (x - 1.5 * unit, y0, x + 1.5 * unit, y1), dark, False, 1.0)
    elif kind == "door":
        half = rng.uniform(16, 26) * unit
        _blend(picture, (x - half, horizon * 0.1, x + half, horizon), jittered(rng, (104, 78, 60), 16), False, 1.2)
    elif kind == "column":
        half = rng.uniform(8, 18) * unit
        _blend(picture, (x - half, -20, x + half, horizon + 4), jittered(rng, (186, 182, 174), 14), False, 2.0)
    elif kind == "post":
        half = rng.uniform(2, 4) * unit
        _blend(picture, (x - half, horizon * rng.uniform(-0.3, 0.4), x + half, horizon + 14 * unit), dark, False, 0.8)
    elif kind == "tree":
        half, green = rng.uniform(24, 46) * unit, jittered(rng, (74, 104, 62), 12)
        _blend(picture, (x - 4 * unit, 0, x + 4 * unit, horizon + 5), jittered(rng, (88, 66, 50), 8), False, 1.0)
        _blend(picture, (x - half, -half, x + half, horizon * 0.75), green, True, 3.0)
    elif kind == "bush":
        half = rng.uniform(24, 60) * unit
        _blend(picture, (x - half, horizon - 0.45 * half, x + half, horizon + 0.3 * half), jittered(rng, (84, 112, 70), 12), True, 2.5)
    elif kind == "bench":
        y, half, wood = horizon + rng.uniform(6, 30) * unit, rng.uniform(26, 44) * unit, jittered(rng, (122, 88, 60), 12)
        for dy in (-14, -8, 0):
            _blend(picture, (x - half, y + dy * unit, x + half, y + (dy + 3.5) * unit), wood, False, 0.8)
        for dx in (-0.8, 0.8):
            _blend(picture, (x + dx * half - 2, y, x + dx * half + 2, y + 14 * unit), dark, False, 0.8)
