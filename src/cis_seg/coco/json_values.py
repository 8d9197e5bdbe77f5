"""What may stand in an annotation file where an id, a coordinate or a polygon is expected: JSON holds anything."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

#: because no image file is larger (a JPEG's side ends at 65,535 pixels), and drawing masks takes memory for every pixel of an outline
MAX_COORDINATE = 100_000

MIN_POLYGON_NUMBERS = 6  # because three points are the fewest that enclose an area


def is_id(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is a whole number that an index of 64 bits can hold, also after one is added."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**62) <= value < 2**62


def is_coordinate(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number of pixels that some image could have (also a bit outside it)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_COORDINATE <= value <= MAX_COORDINATE


def is_side(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is the width or height of some image in pixels."""
    return is_coordinate(value) and isinstance(value, int) and value > 0


def is_area(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a number of pixels that some image could have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COORDINATE**2


def is_polygon(part: Any) -> TypeGuard[list[float]]:
    """Whether ``part`` is [x, y, x, y, ...] of three points or more."""
    return isinstance(part, list) and len(part) >= MIN_POLYGON_NUMBERS and len(part) % 2 == 0 and are_coordinates(part)


def is_degenerate(part: Any) -> TypeGuard[list[float]]:
    """Whether ``part`` is a polygon of one or two points, which encloses nothing (CIS.json has five of them)."""
    return isinstance(part, list) and len(part) < MIN_POLYGON_NUMBERS and all(is_coordinate(v) for v in part)


def are_coordinates(values: list[Any]) -> bool:
    """``all(map(is_coordinate, values))`` in a tenth of the time: COCO's training polygons have 44 million numbers."""
    if not set(map(type, values)) <= {int, float} or min(values) < -MAX_COORDINATE or max(values) > MAX_COORDINATE:
        return False
    return not math.isnan(sum(values))  # which neither min nor max is sure to see


def counts_fit(counts: Any, size: tuple[int, int]) -> bool:
    """Whether run lengths can be those of a mask of ``size`` (height, width): plain ones cover it exactly, compressed ones are text.

    pycocotools would write beyond its memory otherwise.
    """
    if isinstance(counts, list):
        return all(is_id(count) and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
    return isinstance(counts, str) and counts.isascii()
