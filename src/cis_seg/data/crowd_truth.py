"""What is true of a drawn crowd: who is visible where, and the boxes of CrowdHuman.

Legend: H W image size; boxes are integer (x, y, w, h) in image pixels; the drawing is SCALE times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.data.crowd_canvas import SCALE
from cis_seg.data.crowd_figures import Figure

Box = tuple[int, int, int, int]

MIN_VISIBLE_SHARE = 0.15  # of the whole person; who shows less is an ignored entry: nobody could say whose hand that is
MIN_VISIBLE_PIXELS = 60  # below that the mask is less than four cells of the training's mask grid


@dataclass(frozen=True)
class Person:
    """What is known of one person of a finished scene."""

    visible_box: Box  # tight box of ``mask``
    full_box: Box  # of the whole person, hidden and cut parts included; may leave the image
    head_box: Box  # of the whole head, likewise
    visible_share: float  # of the whole person's pixels
    head_share: float  # of the person's pixels in the head's box
    mask: NDArray[np.bool_]  # (H, W) visible pixels; the masks of one scene are disjoint

    @property
    def ignored(self) -> bool:
        """Too little to see to be a target or an error."""
        return self.visible_share < MIN_VISIBLE_SHARE or int(self.mask.sum()) < MIN_VISIBLE_PIXELS


def outer_box(x0: float, y0: float, x1: float, y1: float) -> Box:
    """The smallest integer box in image pixels around x0, y0, x1, y1 (exclusive ends) in drawing pixels."""
    left, top = int(np.floor(x0 / SCALE)), int(np.floor(y0 / SCALE))
    return left, top, int(np.ceil(x1 / SCALE)) - left, int(np.ceil(y1 / SCALE)) - top


def visible_people(figures: Sequence[Figure], owner: NDArray[np.uint8]) -> tuple[Person, ...]:
    """The people who have at least one visible pixel, in the order in which they were painted.

    Args:
        figures: all people; the n-th is number n + 1 in ``owner``.
        owner: (SCALE H, SCALE W) the drawing's owners.
    """
    masks = _visible_masks(owner, len(figures))
    return tuple(
        _person(figure, mask, owner == number) for number, (figure, mask) in enumerate(zip(figures, masks, strict=True), 1) if mask.any()
    )


def _visible_masks(owner: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """(count, H, W): an image pixel is whose most of its drawing pixels are; ties go to nobody, then to the person painted first."""
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
    """Visible share of the pixels that the person has inside the head's box; ``mine`` is the drawing's owner map for this person."""
    x0, y0, x1, y1 = (int(side) for side in figure.head_box)
    whole = _cut(figure.parts > 0, x0 - figure.left, y0 - figure.top, x1 - figure.left, y1 - figure.top)
    return float(_cut(mine, x0, y0, x1, y1).sum()) / max(float(whole.sum()), 1.0)


def _cut(mask: NDArray[np.bool_], x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    """The part of ``mask`` inside a box that may leave it."""
    return mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
