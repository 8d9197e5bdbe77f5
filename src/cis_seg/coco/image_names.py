"""Match file names, of a results file or of a folder of images, with the images of a COCO json."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from cis_seg.errors import DataError

_SHOWN = 3  # ambiguous candidates in a message


def match_file_names(names: Iterable[str], images: Mapping[int, dict[str, Any]], *, source: Path, where: object) -> dict[str, int]:
    """Return the image id of each name that an image has; names without an image are left out.

    Both sides are paths relative to a folder, but not always to the same one. If every name equals the whole ``file_name`` of an image,
    these are the matches. Otherwise a name and an image match if one path ends with the other: ``a.jpg`` and ``val/a.jpg`` match,
    ``b/a.jpg`` and ``val/a.jpg`` do not. Backslashes separate folders too, and composed and decomposed accents are equal.

    Args:
        names: paths of images.
        images: image id -> entry of 'images'.
        source: the file that has the images, for messages.
        where: the file or folder that has the names, for messages.

    Raises:
        DataError: a name matches several images, or several names match one image.
    """
    paths = {name: _parts(name) for name in names}
    known: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    for image_id, image in images.items():
        if isinstance(name := image.get("file_name"), str) and (parts := _parts(name)):
            known[parts[-1]].append((parts, image_id))
    exact = {parts for group in known.values() for parts, _ in group}.issuperset(paths.values())
    matched: dict[str, int] = {}
    taken: dict[int, str] = {}
    for name, own in paths.items():
        found = [image_id for parts, image_id in known.get(own[-1] if own else "", ()) if (parts == own if exact else _end(parts, own))]
        if len(found) > 1:
            candidates = ", ".join(str(images[image_id]["file_name"]) for image_id in found[:_SHOWN])
            raise _ambiguous(f"{name!r} matches {len(found)} images: {candidates}", source, where)
        if found:
            matched[name] = found[0]
            if (other := taken.setdefault(found[0], name)) != name:
                raise _ambiguous(f"{other!r} and {name!r} match one image: {images[found[0]]['file_name']}", source, where)
    return matched


def _parts(name: str) -> tuple[str, ...]:
    return PureWindowsPath(unicodedata.normalize("NFC", name)).parts


def _end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one of two paths ends with the other."""
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def _ambiguous(found: str, source: Path, where: object) -> DataError:
    return DataError(
        "file names cannot be assigned to images",
        where=where,
        expected=f"names that match one image each of {source}",
        found=found,
        remedy="use file names relative to the image folder of the annotations on both sides",
    )
