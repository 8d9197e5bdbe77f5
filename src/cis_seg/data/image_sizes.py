"""Sizes of the images of a folder, read from their headers and cached in a file beside it."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from cis_seg.data.image_files import Size, oriented, read_headers
from cis_seg.runtime.atomic_files import write_atomically

log = logging.getLogger(__name__)

_FORMAT = 2  # version of the cache; others are not read

#: height and width as stored, file size in bytes, modification time in ns, EXIF orientation
Entry = tuple[int, int, int, int, int]


def image_sizes(folder: Path, names: Sequence[str], exif: str = "ignore") -> dict[str, Size]:
    """(height, width) of the files ``names`` in ``folder`` as ``read_image(path, exif=exif)`` reads them.

    Missing files and files that are not images are left out.
    """
    cache = cache_path(folder)
    known = _read(cache)
    states = {name: state for name in names if (state := _state(folder / name)) is not None}
    new = [name for name, state in states.items() if known.get(name, (0, 0, -1, -1, 1))[2:4] != state]
    read = read_headers([folder / name for name in new], f"reading image sizes in {folder}") if new else []
    headers = dict(zip(new, read, strict=True))
    found = {name: (*header.stored, *states[name], header.orientation) for name, header in headers.items() if header is not None}
    if found:
        _write(cache, known | found)
    stale = set(new) - set(found)
    known |= found
    return {name: oriented(known[name][:2], known[name][4], exif) for name in states if name not in stale}


def cache_path(folder: Path) -> Path:
    """The file that caches the sizes of the images in ``folder``."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.sizes.json")


def _state(path: Path) -> tuple[int, int] | None:
    """Size and modification time of a file, or None if it does not exist (or the name is invalid)."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns


def _read(cache: Path) -> dict[str, Entry]:
    """The entries of the cache; none if it is absent, corrupt or of another version."""
    try:
        content = json.loads(cache.read_bytes())
        if content["format"] != _FORMAT:
            return {}
        return {name: (int(h), int(w), int(length), int(time), int(turn)) for name, (h, w, length, time, turn) in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(cache: Path, entries: dict[str, Entry]) -> None:
    """Write the cache; log if the folder is not writable."""
    try:
        # respect the permission bits even for root, who could write anyway
        if not cache.parent.stat().st_mode & 0o222:
            raise PermissionError(f"{cache.parent} is read-only")
        write_atomically(cache, json.dumps({"format": _FORMAT, "files": entries}).encode())
    except OSError as error:
        _log_unwritable(cache, str(error))


@functools.cache  # logged once per folder
def _log_unwritable(cache: Path, reason: str) -> None:
    log.info("%s cannot be written (%s): the sizes of the images are kept in memory and read again by the next run", cache, reason)
