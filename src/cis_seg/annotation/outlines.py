"""Masks as annotation tools take them: polygons, or run-length codes as text.

Legend: a mask is an RLE at its image's size; polygons are COCO's [x, y, x, y, ...] in pixels, whole numbers being edges of pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cis_seg.json_values import MIN_POLYGON_NUMBERS

TOLERANCE = 1.0  # px that a polygon may stray from its mask's edge, because people move its points by hand and stairs have too many


def plain_rle(mask: dict[str, Any]) -> dict[str, Any]:
    """A compressed RLE fit for ``json.dump``."""
    counts = mask["counts"]
    return {"size": [int(side) for side in mask["size"]], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def polygons(mask: dict[str, Any]) -> list[list[int]]:
    """The outlines of a mask's pieces, each of three points or more; none for a mask without a pixel.

    COCO's polygons know no holes: those of the mask are filled. Points are whole numbers, as in CIS.json.
    """
    left, top, width, height = (int(side) for side in coco_mask.toBbox(mask))
    if not width:
        return []
    pixels = np.asarray(coco_mask.decode(mask))[top : top + height, left : left + width]
    # OpenCV's contours run through the centres of the outermost pixels. With every pixel doubled, index 2x is the pixel at the left edge of
    # column x and 2x + 1 the one at its right edge, so that half of the next number is the edge itself.
    contours, _ = cv2.findContours(pixels.repeat(2, axis=0).repeat(2, axis=1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(_simple((np.asarray(contour, dtype=np.int32) + 1) // 2)[:, 0] + (left, top)).ravel().tolist() for contour in contours]


def _simple(contour: NDArray[np.int32]) -> NDArray[np.int32]:
    """A contour (P, 1, 2) with fewer points; as it is where nothing would be left of it."""
    simple = np.asarray(cv2.approxPolyDP(contour, TOLERANCE, closed=True), dtype=np.int32)
    return simple if simple.size >= MIN_POLYGON_NUMBERS and cv2.contourArea(simple) else contour
