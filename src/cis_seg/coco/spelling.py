"""Values that other tools spell differently and that are unambiguous: numbers in quotes, whole numbers as floats, flat polygons, points."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from cis_seg.coco.checks import MIN_POLYGON_NUMBERS, check_mask
from cis_seg.errors import DataError

_WHOLE = re.compile(r"\s*([+-]?\d{1,19})(\.0*)?\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?\d{1,19}(\.\d*)?([eE][+-]?\d{1,3})?\s*", re.ASCII)


class Spelling:
    """Replaces such values in entries and counts them.

    Attributes:
        counts: number of replaced values by key.
        flat: number of masks that were one flat list of coordinates.
        points: number of masks with polygons of points [x, y].
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.flat = self.points = 0

    def whole(self, entry: dict[str, Any], *keys: str) -> None:
        """Replace ``"7"``, ``7.0`` and ``"7.0"`` by 7 under each of the ``keys``."""
        for key in keys:
            value = entry.get(key)
            if isinstance(value, float) and value.is_integer() and abs(value) < 2**62:
                number = int(value)
            elif isinstance(value, str) and (match := _WHOLE.fullmatch(value)):
                number = int(match[1])
            else:
                continue
            entry[key] = number
            self.counts[key] += 1

    def number(self, entry: dict[str, Any], key: str) -> None:
        """Replace a number in quotes under ``key``."""
        if isinstance(value := entry.get(key), str) and _NUMBER.fullmatch(value):
            entry[key] = float(value)
            self.counts[key] += 1

    def numbers(self, entry: dict[str, Any], key: str) -> None:
        """Replace numbers in quotes in the list under ``key``, if all its texts are numbers."""
        values = _unquoted(entry.get(key))
        if values is not None:
            entry[key] = values
            self.counts[key] += 1

    def check_mask(self, entry: dict[str, Any], size: tuple[int, int], **message: Any) -> None:
        """``checks.check_mask`` of an entry's mask as it is written, and then as it may be meant."""
        self._join_points(entry)
        try:
            check_mask(entry.get("segmentation"), size, **message)
        except DataError:
            if not self._mask(entry):
                raise
            check_mask(entry["segmentation"], size, **message)

    def _join_points(self, entry: dict[str, Any]) -> None:
        """Replace polygons of points, ``[[x, y], ...]`` or a list of such, by lists of coordinates: a point alone passes as a polygon."""
        mask = entry.get("segmentation")
        if not isinstance(mask, list):
            return
        parts = [mask] if _are_points(mask) else mask
        if any(map(_are_points, parts)):
            entry["segmentation"] = [[value for point in part for value in point] if _are_points(part) else part for part in parts]
            self.points += 1

    def _mask(self, entry: dict[str, Any]) -> bool:
        """Replace polygons in quotes, and one flat polygon by a list of it; returns whether there were any."""
        mask = entry.get("segmentation")
        if not isinstance(mask, list):
            return False
        flat = len(mask) >= MIN_POLYGON_NUMBERS and all(isinstance(value, int | float | str) for value in mask)
        parts = [mask] if flat else mask
        read = [_unquoted(part) for part in parts]
        if not flat and not any(read):
            return False
        entry["segmentation"] = [part if numbers is None else numbers for part, numbers in zip(parts, read, strict=True)]
        self.flat += flat
        self.counts["segmentation"] += any(read)
        return True

    def notes(self) -> list[str]:
        """One line on each kind of replacement."""
        counted = ", ".join(f"{count} {key}" for key, count in sorted(self.counts.items()) if count)
        notes = [f"numbers written in quotes or as floats were read as numbers: {counted}"] if counted else []
        notes += [f"{self.flat} masks written as one flat list were read as one polygon each"] if self.flat else []
        return notes + ([f"{self.points} masks written as points [x, y] were read as polygons"] if self.points else [])


def _are_points(values: Any) -> bool:
    """Whether ``values`` is a list of three or more pairs."""
    return isinstance(values, list) and len(values) >= 3 and all(isinstance(pair, list) and len(pair) == 2 for pair in values)


def _unquoted(values: Any) -> list[Any] | None:
    """The list with every number in quotes replaced; None if there are none, or other text."""
    if not isinstance(values, list) or str not in map(type, values):
        return None
    if not all(_NUMBER.fullmatch(value) for value in values if isinstance(value, str)):
        return None
    return [float(value) if isinstance(value, str) else value for value in values]
