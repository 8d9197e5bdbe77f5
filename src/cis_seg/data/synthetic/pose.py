"""Poses and joints of a generated person.

Body units: the upright height is 1, x points right, y down, and (0, 0) is the ground below the body.
Angles are in radians; 0 is straight down, positive is outward (away from the body).
Index 0 is the limb on the left of the image, 1 the one on the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]  # (2,) xy in body units

# relative to the height, from artists' canons (7 to 8 heads); the head is slightly large, as in cartoons
UPPER_ARM, FOREARM, THIGH, SHIN, SPINE, NECK = 0.165, 0.15, 0.245, 0.235, 0.305, 0.114
SHOULDER, HIP = 0.104, 0.06  # half widths, seen from the front


@dataclass(frozen=True)
class Pose:
    """Angles of one person, in the conventions of this module."""

    arms: tuple[tuple[float, float], tuple[float, float]]  # (upper arm, forearm), both from straight down
    legs: tuple[tuple[float, float], tuple[float, float]]  # (thigh, shin), both from straight down
    lean: float  # of the spine, positive to the right
    turn: float  # -1 looks left, 0 at the camera, 1 right
    from_behind: bool


@dataclass(frozen=True)
class Skeleton:
    """Joints in body units; pairs are (left of the image, right of the image). The lowest ankle is at y = -0.035."""

    head: Point
    neck: Point
    pelvis: Point
    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]
    hips: tuple[Point, Point]
    knees: tuple[Point, Point]
    ankles: tuple[Point, Point]


# arm poses: (upper arm, forearm), each as (mean, standard deviation) in degrees
ARMS = {
    "hang": ((12, 5), (4, 8)),
    "apart": ((34, 8), (24, 12)),
    "akimbo": ((50, 6), (-48, 6)),
    "hold": ((16, 6), (-118, 12)),
    "pocket": ((30, 5), (-14, 5)),
    "wave": ((118, 14), (168, 14)),
    "spread": ((76, 10), (88, 12)),
    "up": ((152, 12), (168, 10)),
    "shoulder": ((88, 6), (98, 8)),
    "point": ((64, 8), (74, 8)),
}
ARM_WEIGHTS = (0.18, 0.20, 0.20, 0.11, 0.07, 0.07, 0.04, 0.04, 0.05, 0.04)
LEGS = {
    "stand": (((2, 2), (1, 1.5)), ((2, 2), (1, 1.5))),
    "wide": (((17, 4), (13, 3)), ((17, 4), (13, 3))),
    "step": (((26, 5), (20, 5)), ((18, 5), (34, 6))),
    "stroll": (((16, 4), (10, 4)), ((12, 4), (24, 5))),
    "lean": (((2, 2), (2, 2)), ((22, 4), (10, 4))),
}
LEG_WEIGHTS = (0.38, 0.12, 0.12, 0.16, 0.22)  # most people in a crowd stand


def _angle(rng: np.random.Generator, mean_spread: tuple[float, float]) -> float:
    mean, spread = mean_spread
    return float(np.deg2rad(mean + spread * np.clip(rng.standard_normal(), -1.8, 1.8)))


def sample_pose(rng: np.random.Generator) -> Pose:
    """Return a random standing or walking pose; walkers are turned to one side."""
    names = rng.choice(list(ARMS), 2, p=ARM_WEIGHTS)
    if rng.random() < 0.3:
        names[1] = names[0]
    arms = tuple((_angle(rng, ARMS[name][0]), _angle(rng, ARMS[name][1])) for name in names)
    stance = str(rng.choice(list(LEGS), p=LEG_WEIGHTS))
    legs = tuple((_angle(rng, thigh), _angle(rng, shin)) for thigh, shin in LEGS[stance])
    if rng.random() < 0.5:
        legs = legs[::-1]
    walks = stance in ("step", "stroll")
    turn = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)) if walks else float(rng.uniform(-0.6, 0.6))
    return Pose((arms[0], arms[1]), (legs[0], legs[1]), float(rng.normal(0, 0.035)), turn, bool(rng.random() < 0.15))


def _step(start: Point, length: float, angle: float, side: int) -> Point:
    """Return the point at ``length`` and ``angle`` from straight down, outward on ``side`` (0 left, 1 right)."""
    sign = 1.0 if side else -1.0
    return start + length * np.array([sign * np.sin(angle), np.cos(angle)])


def joints(pose: Pose, build: float) -> Skeleton:
    """Compute the joints of ``pose`` by forward kinematics; ``build`` scales the widths (1 is average)."""
    narrow = 1.0 - 0.38 * abs(pose.turn)  # a turned body appears narrower
    pelvis = np.array([0.0, -0.5])
    spine = np.array([np.sin(pose.lean), -np.cos(pose.lean)])
    neck = pelvis + SPINE * spine
    across = np.array([-spine[1], spine[0]])
    shoulders = [neck + 0.036 * -spine + sign * SHOULDER * build * narrow * across for sign in (-1, 1)]
    hips = [pelvis + np.array([sign * HIP * build * narrow, 0.0]) for sign in (-1, 1)]
    elbows = [_step(shoulders[i], UPPER_ARM, pose.arms[i][0], i) for i in (0, 1)]
    hands = [_step(elbows[i], FOREARM, pose.arms[i][1], i) for i in (0, 1)]
    knees = [_step(hips[i], THIGH, pose.legs[i][0], i) for i in (0, 1)]
    ankles = [_step(knees[i], SHIN, pose.legs[i][1], i) for i in (0, 1)]
    head = neck + NECK * spine + np.array([0.012 * pose.turn, 0.0])
    drop = np.array([0.0, -0.035 - max(ankles[0][1], ankles[1][1])])
    pairs = [(a + drop, b + drop) for a, b in (shoulders, elbows, hands, hips, knees, ankles)]
    return Skeleton(head + drop, neck + drop, pelvis + drop, *pairs)
