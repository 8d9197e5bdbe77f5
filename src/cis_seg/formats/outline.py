"""Several rings as one polygon, for formats that have one polygon per instance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ring = Sequence[float]


def joined(rings: Sequence[Ring]) -> list[float]:
    """One polygon [x, y, x, y, ...] that fills the same pixels as ``rings`` by the even-odd rule.

    Each ring is joined to those before it, the longest first, by a line between their nearest points that is walked there and back. A line
    has no area; programs that paint outlines, such as OpenCV's ``fillPoly``, paint it one pixel wide.

    Args:
        rings: [x, y, x, y, ...] of pieces and holes, one or more.
    """
    longest, *others = sorted((np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings), key=len, reverse=True)
    whole: NDArray[np.float64] = longest
    for ring in others:
        distances = ((whole[:, None] - ring[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        whole = np.concatenate([whole[: here + 1], ring[there:], ring[: there + 1], whole[here:]])
    return [float(value) for value in whole.ravel()]
