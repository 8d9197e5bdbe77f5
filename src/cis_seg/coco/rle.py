"""Run-length codes (RLEs) of binary masks, the one form in which masks are kept, compared and written.

A code is pycocotools' compressed form, ``{"size": [height, width], "counts": bytes}``. In JSON the counts are ASCII text;
every function here takes both.

Legend: H W size of the image in pixels; boxes are COCO's [x, y, width, height].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cis_seg.coco.checks import MIN_POLYGON_NUMBERS, has_outline

if TYPE_CHECKING:  # a type alone: reading json files needs no torch
    from cis_seg.structures import RLE

TOLERANCE = 1.0  # px that a polygon may deviate from the edge of its mask, because people edit its points by hand and stairs have too many
EXACT = 0.5  # the same if no pixel may change: only points on the way between two pixel centres are left out

Code = Mapping[str, Any]


def encode(mask: NDArray[Any]) -> RLE:
    """(H, W) of bool or 0 and 1 -> its code."""
    code: RLE = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return code


def decode(code: Code) -> NDArray[np.uint8]:
    """The mask (H, W) of 0 and 1, columns first in memory."""
    return np.asarray(coco_mask.decode(code), dtype=np.uint8)


def empty(size: tuple[int, int]) -> RLE:
    """A mask of (height, width) without a pixel."""
    return encode(np.zeros(size, dtype=np.uint8))


def full(size: tuple[int, int]) -> RLE:
    """A mask of every pixel of (height, width)."""
    return _from_counts([0, size[0] * size[1]], size)


def area(code: Code) -> int:
    """Number of pixels."""
    return int(coco_mask.area(code))


def tight_box(code: Code) -> list[float]:
    """The smallest [x, y, width, height] around the mask; all 0 if it has no pixel."""
    box: list[float] = coco_mask.toBbox(code).tolist()
    return box


def mask_iou(first: Sequence[Code], second: Sequence[Code]) -> NDArray[np.float64]:
    """IoU of two lists of masks of one size -> (N, K)."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(list(first), list(second), [0] * len(second)), dtype=np.float64)


def merge(codes: Sequence[Code], *, intersect: bool = False) -> RLE:
    """The union of masks, or their intersection."""
    code: RLE = coco_mask.merge(list(codes), intersect=intersect)
    return code


def shared_area(first: Code, second: Code) -> int:
    """Number of pixels that both masks have."""
    # pycocotools' IoU with a crowd region divides by the area of the first mask alone
    return round(float(coco_mask.iou([first], [second], [1])[0, 0]) * area(first))


def placed(code: Code, corner: tuple[int, int], size: tuple[int, int]) -> RLE:
    """The mask of a window of an image as a mask of the whole image; the work follows the mask's own box.

    Args:
        code: the mask of the window.
        corner: (x, y) of the window's first pixel in the image.
        size: (height, width) of the image, which contains the window.
    """
    left, top, width, height = (int(side) for side in tight_box(code))
    part = decode(code)[top : top + height, left : left + width].T.astype(np.int8)  # (width, height)
    columns, rows = np.nonzero(np.diff(part, axis=1, prepend=0, append=0))  # first pixel of each run, and the first beyond it
    ends = (columns + left + corner[0]) * size[0] + rows + top + corner[1]
    ends, times = np.unique(ends, return_counts=True)  # a run to the bottom and one from the top of the next column are one run
    counts = np.diff(ends[times == 1], prepend=0, append=size[0] * size[1]).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    return _from_counts(counts, size)


def _from_counts(counts: Sequence[int], size: tuple[int, int]) -> RLE:
    code: RLE = coco_mask.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
    return code


def to_json(code: Code) -> dict[str, Any]:
    """``code`` in the form that ``json.dump`` takes: counts as text."""
    counts = code["counts"]
    return {"size": [int(side) for side in code["size"]], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def from_segmentation(segmentation: Any, size: tuple[int, int]) -> RLE | None:
    """COCO's three ways to write a mask (polygons, plain and compressed run lengths) as a code.

    Polygon parts of one or two points enclose nothing and are left out: pycocotools would take a first part of two points for a box.

    Args:
        segmentation: checked by ``checks.is_segmentation``.
        size: (height, width) of the image.

    Returns:
        The code, or None if nothing is outlined.
    """
    if not has_outline(segmentation):
        return None
    if isinstance(segmentation, list):
        return merge(coco_mask.frPyObjects([part for part in segmentation if len(part) >= MIN_POLYGON_NUMBERS], *size))
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return _from_counts(counts, size)
    return {"size": list(size), "counts": counts.encode() if isinstance(counts, str) else counts}


def polygon_mask(polygon: Sequence[float], size: tuple[int, int]) -> RLE:
    """The filled polygon [x, y, x, y, ...] in an image of ``size`` (height, width)."""
    code: RLE = coco_mask.frPyObjects([list(polygon)], *size)[0]
    return code


def box_mask(box: Sequence[float], size: tuple[int, int]) -> RLE:
    """The filled box in an image of ``size`` (height, width), clipped to it."""
    x0, y0, x1, y1 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return polygon_mask([x0, y0, x0, y1, x1, y1, x1, y0], size)


def polygons(code: Code) -> list[list[int]]:
    """The outline of each piece of a mask, with three points or more; none for a mask without a pixel.

    COCO's polygons cannot have holes, so holes are filled. Points are integers, as in CIS.json.
    """
    return _contours(code, cv2.RETR_EXTERNAL, TOLERANCE)


def rings(code: Code, tolerance: float = EXACT) -> list[list[int]]:
    """The outlines of all pieces and of all holes of a mask; filled by the even-odd rule they are the mask again.

    Args:
        code: the mask.
        tolerance: px that a ring may deviate; with ``EXACT`` the filled rings equal the mask in every pixel.
    """
    return _contours(code, cv2.RETR_CCOMP, tolerance)


def _contours(code: Code, mode: int, tolerance: float) -> list[list[int]]:
    left, top, width, height = (int(side) for side in tight_box(code))
    if not width:
        return []
    pixels = decode(code)[top : top + height, left : left + width]
    # OpenCV's contours run through the centres of the outermost pixels. With every pixel doubled, index 2x is the pixel at the left edge of
    # column x and 2x + 1 the one at its right edge, so that half of the next number is the edge itself.
    contours, _ = cv2.findContours(pixels.repeat(2, axis=0).repeat(2, axis=1), mode, cv2.CHAIN_APPROX_SIMPLE)
    edges = [(np.asarray(contour, dtype=np.int32) + 1) // 2 for contour in contours]
    return [(_simplified(edge, tolerance)[:, 0] + (left, top)).ravel().tolist() for edge in edges]


def _simplified(contour: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    """A contour (P, 1, 2) with fewer points, or as it is if nothing would be left of it."""
    simple = np.asarray(cv2.approxPolyDP(contour, tolerance, closed=True), dtype=np.int32)
    return simple if simple.size >= MIN_POLYGON_NUMBERS and cv2.contourArea(simple) else contour
