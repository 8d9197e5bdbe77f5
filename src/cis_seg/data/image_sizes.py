"""Sizes of image files, read from their headers once and kept beside the images.

CrowdHuman's records do not hold them, and reading 15,000 headers takes minutes from a slow disk. The cache is
``<images>.sizes.json`` next to the image folder; an entry counts as long as the file keeps its length and its time.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cis_seg.data.images import read_size
from cis_seg.errors import DataError

log = logging.getLogger(__name__)

_THREADS = 8  # because headers wait for the disk, not for the processor
_FORMAT = 1  # of the cache; a cache of another format is not read

#: height, width, length in bytes, time of the last change in ns
Entry = tuple[int, int, int, int]


def image_sizes(folder: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(height, width) in pixels of the files ``names`` in ``folder``; missing files and those that are no images are left out."""
    cache = cache_path(folder)
    known = _read(cache)
    states = {name: state for name in names if (state := _state(folder / name)) is not None}
    new = [name for name, state in states.items() if known.get(name, (0, 0, -1, -1))[2:] != state]
    found = {name: (*size, *states[name]) for name, size in zip(new, _headers(folder, new), strict=True) if size is not None}
    if found:
        _write(cache, known | found)
    stale = set(new) - set(found)
    known |= found
    return {name: known[name][:2] for name in states if name not in stale}


def cache_path(folder: Path) -> Path:
    """Where the sizes of the images in ``folder`` are kept."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.sizes.json")


def _state(path: Path) -> tuple[int, int] | None:
    """Length and time of a file, or None where there is none (or where the name can be no file's)."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns


def _headers(folder: Path, names: Sequence[str]) -> list[tuple[int, int] | None]:
    if not names:
        return []
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(lambda name: _size(folder / name), names)
        return list(tqdm(sizes, total=len(names), desc=f"reading image sizes in {folder}", unit=" images", disable=None))


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return read_size(path)
    except DataError:
        return None


def _read(cache: Path) -> dict[str, Entry]:
    """What the cache holds; nothing where it is absent, damaged or of another format."""
    try:
        content = json.loads(cache.read_bytes())
        if content["format"] != _FORMAT:
            return {}
        return {name: (int(h), int(w), int(length), int(time)) for name, (h, w, length, time) in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(cache: Path, entries: dict[str, Entry]) -> None:
    """Writes the cache in one piece; where the folder is not meant to be written, says so."""
    draft = cache.with_name(f".{cache.name}.{os.getpid()}.partial")
    try:
        # the permission bits too: whoever took them all away means it, though root could write all the same
        if not cache.parent.stat().st_mode & 0o222:
            raise PermissionError(f"{cache.parent} is read-only")
        draft.write_text(json.dumps({"format": _FORMAT, "files": entries}))
        draft.replace(cache)
    except OSError as error:
        _tell_unwritable(cache, str(error))


@functools.cache  # said once for each folder
def _tell_unwritable(cache: Path, reason: str) -> None:
    log.info("%s cannot be written (%s): the sizes of the images are kept in memory and read again by the next run", cache, reason)
