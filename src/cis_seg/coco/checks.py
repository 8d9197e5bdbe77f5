"""Checks of single values of an annotation or results file, and their messages. JSON can hold anything anywhere."""

from __future__ import annotations

import math
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

from pycocotools import mask as coco_mask

from cis_seg.coco.file_names import near_file
from cis_seg.errors import DataError

#: because no image file is larger (a JPEG has at most 65,535 pixels per side), and an outline takes memory for every pixel
MAX_COORDINATE = 100_000

MIN_POLYGON_NUMBERS = 6  # because three points are the fewest that enclose an area

#: characters of compressed run lengths, six bits each; the repr of bytes, b'...', has a quote, which is none of them
_RLE_CHARACTERS = "".join(map(chr, range(48, 112)))

_REMEDY = "correct this annotation or delete it"
_MASK_REMEDY = "correct the mask or delete the annotation; only scoring and supervision=mask need masks"


def is_id(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an integer that fits into 64 bits, even after one is added."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**62) <= value < 2**62


def is_score(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_coordinate(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a finite number of pixels, inside an image or somewhat outside."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_COORDINATE <= value <= MAX_COORDINATE


def is_side(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is a possible width or height of an image in pixels."""
    return is_coordinate(value) and isinstance(value, int) and value > 0


def is_area(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a possible area in square pixels."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COORDINATE**2


def is_polygon(part: Any) -> TypeGuard[list[float]]:
    """Whether ``part`` is [x, y, x, y, ...] with three points or more."""
    return isinstance(part, list) and len(part) >= MIN_POLYGON_NUMBERS and len(part) % 2 == 0 and are_coordinates(part)


def is_degenerate(part: Any) -> TypeGuard[list[float]]:
    """Whether ``part`` is a polygon of one or two points, which encloses nothing (CIS.json has five)."""
    return isinstance(part, list) and len(part) < MIN_POLYGON_NUMBERS and all(is_coordinate(v) for v in part)


def are_coordinates(values: list[Any]) -> bool:
    """``all(map(is_coordinate, values))`` in a tenth of the time: the polygons of COCO train2017 hold 44 million numbers."""
    if not set(map(type, values)) <= {int, float} or min(values) < -MAX_COORDINATE or max(values) > MAX_COORDINATE:
        return False
    return not math.isnan(sum(values))  # min and max can miss a NaN


def counts_fit(counts: Any, size: tuple[int, int]) -> bool:
    """Whether ``counts`` can be the run lengths of a mask of ``size`` (height, width).

    Plain counts must cover the mask exactly, because pycocotools would write out of bounds otherwise. Compressed ones consist of 64
    characters, and cannot have more pixels than the image.
    """
    pixels = size[0] * size[1]
    if isinstance(counts, list):
        return all(is_id(count) and count >= 0 for count in counts) and sum(counts) == pixels
    text = counts.decode("latin1") if isinstance(counts, bytes) else counts
    if not isinstance(text, str) or not text or text.strip(_RLE_CHARACTERS):
        return False
    return bool(0 <= coco_mask.area({"size": list(size), "counts": counts}) <= pixels)


def is_segmentation(segmentation: Any, size: tuple[int, int]) -> bool:
    """Whether ``segmentation`` has one of COCO's three forms for an image of ``size`` (height, width).

    These are polygons (degenerate parts allowed), plain run lengths and compressed run lengths. Nothing at all also counts: no mask.
    """
    if not segmentation:
        return True
    if isinstance(segmentation, dict):
        return segmentation.get("size") == list(size) and counts_fit(segmentation.get("counts"), size)
    return isinstance(segmentation, list) and all(is_polygon(part) or is_degenerate(part) for part in segmentation)


def has_outline(segmentation: Any) -> bool:
    """Whether a checked segmentation encloses anything: some part is not degenerate."""
    return bool(segmentation) and (isinstance(segmentation, dict) or any(len(part) >= MIN_POLYGON_NUMBERS for part in segmentation))


def degenerate_parts(segmentation: Any) -> int:
    """Number of degenerate parts of a checked segmentation."""
    return sum(len(part) < MIN_POLYGON_NUMBERS for part in segmentation) if isinstance(segmentation, list) else 0


def check_box(value: Any, *, culprit: object, where: object) -> list[float]:
    """``value`` if it is a box [x, y, width, height] in pixels; a side of 0 is allowed.

    Raises:
        DataError: not four finite numbers, one beyond ``MAX_COORDINATE``, or a negative side; names ``culprit``.
    """
    if not isinstance(value, list) or len(value) != 4 or not are_coordinates(value):
        expected = f"[x, y, width, height], four finite numbers within {MAX_COORDINATE} pixels"
        raise DataError(f"{culprit} has no usable box", where=where, expected=expected, found=str(value)[:80], remedy=_REMEDY)
    if value[2] < 0 or value[3] < 0:
        raise DataError(
            f"{culprit} has a negative {'width' if value[2] < 0 else 'height'}",
            where=where,
            found=value,
            expected="[x, y, width, height] with width and height of 0 or more",
            remedy=f"{_REMEDY}; boxes are not [x0, y0, x1, y1]",
        )
    return value


def check_mask(
    segmentation: Any, size: tuple[int, int], *, culprit: object, where: object, required: bool = False, remedy: str = _MASK_REMEDY
) -> None:
    """Refuse a segmentation that is malformed or, if ``required``, encloses nothing.

    Raises:
        DataError: names ``culprit``.
    """
    if not is_segmentation(segmentation, size) or (required and not has_outline(segmentation)):
        raise DataError(
            f"{culprit} has no usable mask",
            where=where,
            found=str(segmentation)[:80],
            expected=f"polygons of three points or more, or a run-length code of size {list(size)} (height, width)",
            remedy=remedy,
        )


def check_file_name(name: Any, *, culprit: object, where: object, folder: Path | None = None) -> str:
    """``name`` if it is a relative path that stays inside the image folder; the message names a near file of ``folder``.

    Raises:
        DataError: not a string, empty, absolute, contains ``..``, or characters that no file name can hold.
    """
    if not isinstance(name, str) or not name:
        raise DataError(
            f"{culprit} has no file name",
            where=where,
            expected="the name of a file inside the image folder",
            found=repr(name)[:80],
            remedy="write file_name for every image (for LVIS: the last part of coco_url), or ID in an .odgt file",
        )
    if "\0" not in name and _is_unicode(name):
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.is_absolute() or path.anchor or ".." in path.parts:
                break
        else:
            return name
    near = near_file(folder, name) if folder is not None and "\0" not in name else None
    raise DataError(
        f"{culprit} has a file name that does not lie inside the image folder",
        where=where,
        expected="a path relative to the image folder, without '..'",
        found=repr(name) + (f"; {near}" if near else ""),
        remedy=f"write {near.name!r} in its place" if near else "correct the file name",
    )


def _is_unicode(name: str) -> bool:
    """Whether ``name`` can be encoded: JSON can hold lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
