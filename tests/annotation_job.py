"""The boxes of a job for annotators that several tests share: images of 60 x 80."""

from __future__ import annotations

NAMES = ("273271,c9db.jpg", "273275,aa01.jpg")
#: annotation id -> box; 1 to 3 stand in the first image, 5 and 6 in the second, and 4 is a region to ignore in the first
PEOPLE = {1: [10, 10, 20, 40], 2: [25, 12, 20, 40], 3: [50, 5, 20, 50], 5: [5, 5, 30, 50], 6: [30, 10, 30, 40]}
REGION = [60, 40, 20, 20]


def rectangle(x: float, y: float, w: float, h: float) -> list[float]:
    """The polygon that fills a box."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]
