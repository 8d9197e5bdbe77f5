"""Colours of people, and the choice of garment colours relative to their surroundings.

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
