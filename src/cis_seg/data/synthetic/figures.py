"""One articulated person as a map of body parts.

Legend: h w size of the part map in drawing pixels (image pixels times supersampling).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.data.synthetic.pose import Point, Pose, Skeleton, joints

_FRACTION = 4  # bits below the pixel in cv2's coordinates


class Part(IntEnum):
    """Kinds of surface; + LINE for outlines, + FAR for parts on the far side of the body."""

    NONE = 0
    SKIN = 1
    HAIR = 2
    SHIRT = 3
    SLEEVE = 4
    TROUSERS = 5
    SHIN = 6
    SHOES = 7
    DETAIL = 8
    HAT = 9


LINE, FAR = 16, 32
LINE_WIDTH = 0.0045  # relative to the height; makes an arm visible in front of a shirt of the same colour


@dataclass(frozen=True)
class Outfit:
    """Build, hair and clothes of a person, without colours."""

    build: float  # width, 1 is average
    skirt: float  # length of a skirt or dress as a share of the leg, 0 for none
    hair: str  # "short", "long", "bun", "bald", "hat"
    trousers_wide: float  # thickness of the trousers, 1 is average


@dataclass(frozen=True)
class Figure:
    """A drawn person."""

    parts: NDArray[np.uint8]  # (h, w) Part + LINE or FAR; 0 outside the person
    left: int  # column of the left edge, in drawing pixels
    top: int  # row of the upper edge
    head_box: tuple[float, float, float, float]  # x0, y0, x1, y1 in drawing pixels


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Return a random outfit."""
    skirt = float(rng.uniform(0.35, 0.85)) if rng.random() < 0.2 else 0.0
    hair = str(rng.choice(["short", "long", "bun", "bald", "hat"], p=[0.46, 0.26, 0.1, 0.06, 0.12]))
    return Outfit(float(np.clip(rng.normal(1.0, 0.1), 0.82, 1.25)), skirt, hair, float(rng.uniform(0.9, 1.15)))


def _off(point: Point, dx: float, dy: float) -> Point:
    return np.array([point[0] + dx, point[1] + dy])


class _Pen:
    """Draws shapes in body units into a part map."""

    def __init__(self, size: tuple[int, int], scale: float, origin: Point) -> None:
        self.parts: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.scale, self.origin = scale, origin

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.rint((points * self.scale + self.origin) * (1 << _FRACTION)).astype(np.int32)

    def polygon(self, points: NDArray[np.float64], part: int) -> None:
        cv2.fillPoly(self.parts, [self._pixels(points)], int(part), lineType=cv2.LINE_8, shift=_FRACTION)

    def ellipse(self, center: Point, rx: float, ry: float, part: int) -> None:
        t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        self.polygon(center + np.stack([rx * np.cos(t), ry * np.sin(t)], 1), part)

    def limb(self, start: Point, end: Point, r0: float, r1: float, part: int) -> None:
        """Draw a tapered capsule: the convex hull of two discs."""
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        circle = np.stack([np.cos(t), np.sin(t)], 1)
        hull = cv2.convexHull(np.concatenate([start + r0 * circle, end + r1 * circle]).astype(np.float32))
        self.polygon(hull[:, 0].astype(np.float64), part)

    def outlined(self, start: Point, end: Point, r0: float, r1: float, part: int) -> None:
        self.limb(start, end, r0 + LINE_WIDTH, r1 + LINE_WIDTH, part % FAR + LINE)
        self.limb(start, end, r0, r1, part)


def _draw_arm(pen: _Pen, body: Skeleton, side: int, build: float, far: int) -> None:
    shoulder, elbow, hand = body.shoulders[side], body.elbows[side], body.hands[side]
    pen.outlined(elbow, hand, 0.032 * build, 0.025 * build, Part.SLEEVE + far)
    pen.outlined(shoulder, elbow, 0.041 * build, 0.034 * build, Part.SHIRT + far)
    along = (hand - elbow) / np.linalg.norm(hand - elbow)
    pen.limb(hand + 0.006 * along, hand + 0.034 * along, 0.022, 0.018, Part.SKIN + far)


def _draw_leg(pen: _Pen, body: Skeleton, side: int, outfit: Outfit, turn: float, far: int) -> None:
    hip, knee, ankle = body.hips[side], body.knees[side], body.ankles[side]
    wide = outfit.trousers_wide * (0.5 + 0.5 * outfit.build)
    toe = turn if abs(turn) > 0.35 else (0.4 if side else -0.4)
    pen.limb(_off(ankle, 0.0, 0.012), _off(ankle, 0.07 * toe, 0.017), 0.027, 0.018, Part.SHOES + far)
    pen.limb(knee, ankle, 0.047 * wide, 0.034 * wide, Part.SHIN + far)
    pen.limb(hip, knee, 0.066 * wide, 0.049 * wide, Part.TROUSERS + far)


def _draw_torso(pen: _Pen, body: Skeleton, outfit: Outfit) -> None:
    (ls, rs), (lh, rh), b = body.shoulders, body.hips, outfit.build
    up = (body.neck - body.pelvis) / np.linalg.norm(body.neck - body.pelvis)
    across = np.array([-up[1], up[0]])
    waist = body.pelvis + 0.13 * up
    half = 0.66 * float(np.linalg.norm(rs - ls)) * 0.5 + 0.034 * b
    hip_l, hip_r = lh - 0.058 * b * across, rh + 0.058 * b * across
    outline = np.array([
        body.neck - 0.03 * across + 0.012 * up, ls - 0.012 * across + 0.034 * up, ls - 0.04 * b * across - 0.02 * up,
        waist - half * across, hip_l, hip_l - 0.035 * up, hip_r - 0.035 * up, hip_r, waist + half * across,
        rs + 0.04 * b * across - 0.02 * up, rs + 0.012 * across + 0.034 * up, body.neck + 0.03 * across + 0.012 * up,
    ])  # fmt: skip
    if outfit.skirt:
        hem = 0.07 + 0.47 * outfit.skirt
        flare = 0.075 + 0.075 * outfit.skirt
        pen.polygon(np.array([waist - half * across, _off(lh, -flare, hem), _off(rh, flare, hem), waist + half * across]), Part.TROUSERS)
    else:
        pen.polygon(np.array([hip_l, hip_l - 0.055 * up, body.pelvis - 0.085 * up, hip_r - 0.055 * up, hip_r]), Part.TROUSERS)
    pen.polygon(outline, Part.SHIRT)


def _draw_head(pen: _Pen, body: Skeleton, pose: Pose, outfit: Outfit) -> None:
    head, turn = body.head, pose.turn
    top = {"hat": Part.HAT, "bald": Part.SKIN}.get(outfit.hair, Part.HAIR)
    pen.limb(body.neck, _off(head, 0.0, 0.03), 0.03, 0.03, Part.SKIN + FAR)
    pen.ellipse(head, 0.06, 0.075, Part.SKIN)
    if pose.from_behind:
        pen.ellipse(_off(head, 0.0, -0.006), 0.063, 0.072, top)
    else:
        _draw_face(pen, head, turn)
        _draw_cap(pen, head, turn, top)
    if outfit.hair == "bun":
        pen.ellipse(_off(head, -0.02 * turn, -0.078), 0.024, 0.022, Part.HAIR)


def _draw_cap(pen: _Pen, head: Point, turn: float, top: Part) -> None:
    """Draw hair or hat from the front: the upper half of the head down to a fringe."""
    t = np.linspace(np.pi, 2 * np.pi, 17)
    rim = np.stack([0.064 * np.cos(t), 0.079 * np.sin(t) - 0.004], 1)
    middle = 0.015 * turn
    fringe = [[0.056, -0.004 - 0.02 * turn], [middle + 0.033, -0.036], [middle - 0.033, -0.036], [-0.056, -0.004 + 0.02 * turn]]
    if top is not Part.SKIN:
        pen.polygon(head + np.concatenate([rim, fringe]), top)
    if top is Part.HAT:
        pen.limb(_off(head, 0.03 * turn - 0.05, -0.034), _off(head, 0.03 * turn + 0.05, -0.034), 0.009, 0.009, Part.HAT + LINE)


def _draw_face(pen: _Pen, head: Point, turn: float) -> None:
    middle = 0.022 * turn
    for eye in (-0.02, 0.02):
        pen.ellipse(_off(head, middle + eye, 0.0), 0.0055, 0.007, Part.DETAIL)
    pen.limb(_off(head, middle - 0.012, 0.034), _off(head, middle + 0.012, 0.034), 0.0028, 0.0028, Part.SKIN + LINE)


def _draw_hair_behind(pen: _Pen, body: Skeleton, pose: Pose, outfit: Outfit) -> None:
    if outfit.hair == "long":
        pen.limb(body.head, _off(body.head, -0.02 * pose.turn, 0.085), 0.07, 0.056, Part.HAIR + FAR)


def draw_figure(rng: np.random.Generator, pose: Pose, outfit: Outfit, height: float, foot: tuple[float, float]) -> Figure:
    """Draw a person of ``height`` standing at ``foot`` (x, y), both in drawing pixels.

    The part map contains the whole person, unclipped, wherever ``foot`` is.
    """
    body = joints(pose, outfit.build)
    reach, above = int(np.ceil(0.62 * height)) + 2, int(np.ceil(1.22 * height)) + 2  # room for arms stretched sideways and up
    left, top = int(np.floor(foot[0])) - reach, int(np.floor(foot[1])) - above
    pen = _Pen((above + int(0.06 * height) + 2, 2 * reach), height, np.array([foot[0] - left, foot[1] - top]))
    behind = [bool(rng.random() < 0.3), bool(rng.random() < 0.3)]  # arms that pass behind the torso
    _draw_body(pen, body, pose, outfit, behind)
    x, y = body.head * height + np.array(foot)
    return _trimmed(pen.parts, left, top, (x - 0.065 * height, y - 0.083 * height, x + 0.065 * height, y + 0.076 * height))


def _draw_body(pen: _Pen, body: Skeleton, pose: Pose, outfit: Outfit, behind: list[bool]) -> None:
    """Draw all parts from back to front."""
    far = 0 if pose.turn < 0 else 1  # the side of the body turned away
    sides = (far, 1 - far)
    hidden = [behind[side] or (side == far and abs(pose.turn) > 0.5) for side in (0, 1)]
    if not pose.from_behind:
        _draw_hair_behind(pen, body, pose, outfit)
    for side in sides:
        if hidden[side]:
            _draw_arm(pen, body, side, outfit.build, FAR)
    _draw_leg(pen, body, far, outfit, pose.turn, FAR if abs(pose.turn) > 0.35 else 0)
    _draw_leg(pen, body, 1 - far, outfit, pose.turn, 0)
    _draw_torso(pen, body, outfit)
    _draw_head(pen, body, pose, outfit)
    if pose.from_behind:
        _draw_hair_behind(pen, body, pose, outfit)
    for side in sides:
        if not hidden[side]:
            _draw_arm(pen, body, side, outfit.build, 0)


def _trimmed(parts: NDArray[np.uint8], left: int, top: int, head_box: tuple[float, float, float, float]) -> Figure:
    x, y, w, h = cv2.boundingRect(parts)
    return Figure(np.ascontiguousarray(parts[y : y + h, x : x + w]), left + x, top + y, head_box)
