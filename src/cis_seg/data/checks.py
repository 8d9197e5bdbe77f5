"""Checks that the readers of every annotation format share, and the words of their messages."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from cis_seg.coco.json_values import MAX_COORDINATE, are_coordinates
from cis_seg.errors import DataError

log = logging.getLogger(__name__)
Box = tuple[float, float, float, float]

#: why the readers leave out a box that makes sense
NO_AREA, OUTSIDE = "boxes without width or height", "boxes outside their image"


def parse_box(value: Any, *, culprit: str, where: object) -> Box | None:
    """An annotated ``[x, y, width, height]`` in pixels -> xyxy, or None where a side is 0.

    Raises:
        DataError: not four finite numbers, one beyond ``MAX_COORDINATE``, or a negative side; names ``culprit``.
    """
    remedy = "correct this annotation or delete it"
    if not isinstance(value, list) or len(value) != 4 or not are_coordinates(value):
        expected = f"[x, y, width, height], four finite numbers within {MAX_COORDINATE} pixels"
        raise DataError(f"{culprit} has no usable box", where=where, expected=expected, found=str(value)[:80], remedy=remedy)
    x, y, width, height = value
    if width < 0 or height < 0:
        side = "width" if width < 0 else "height"
        raise DataError(
            f"{culprit} has a negative {side}",
            where=where,
            found=value,
            expected="[x, y, width, height] with width and height of 0 or more",
            remedy=f"{remedy}; boxes are not [x0, y0, x1, y1]",
        )
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def inside(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of ``box`` (xyxy) inside an image of (height, width), or None where that is empty."""
    height, width = size
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def check_file_name(name: Any, *, culprit: str, where: object) -> str:
    """``name`` if it is a relative path that stays inside the image folder.

    Raises:
        DataError: no text, empty, absolute, with a ``..``, or with characters that no file name holds.
    """
    if isinstance(name, str) and name and "\0" not in name and _is_unicode(name):
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.is_absolute() or path.anchor or ".." in path.parts:
                break
        else:
            return name
    raise DataError(
        f"{culprit} has a file name that does not lie inside the image folder",
        where=where,
        expected="a path relative to the image folder, without '..'",
        found=repr(name),
        remedy="correct the file name",
    )


def _is_unicode(name: str) -> bool:
    """Whether ``name`` can be written: JSON can hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def report_dropped(source: Path, dropped: Counter[str]) -> None:
    """One log line that says how many annotations were left out, and why; silent if none."""
    if dropped := +dropped:
        log.warning("%s: left out %s", source, ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())))


def listing(folder: Path, pattern: str = "*", most: int = 12) -> str:
    """What lies in ``folder``, for an error message."""
    if not folder.is_dir():
        return "(no such folder)"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.glob(pattern))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "(nothing)"
