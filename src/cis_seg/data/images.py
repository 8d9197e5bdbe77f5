"""Reading image files as 8-bit RGB, and their sizes; corrupt files are detected."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from cis_seg.errors import DataError
from cis_seg.runtime.file_kinds import file_kind

log = logging.getLogger(__name__)

_THREADS = 8  # because reading headers waits for the disk, not the processor
_FORMAT = 1  # version of the cache; others are not read

#: height, width, file size in bytes, modification time in ns
Entry = tuple[int, int, int, int]


def image_sizes(folder: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(height, width) in pixels of the files ``names`` in ``folder``; missing files and files that are not images are left out."""
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
    """The entries of the cache; none if it is absent, corrupt or of another version."""
    try:
        content = json.loads(cache.read_bytes())
        if content["format"] != _FORMAT:
            return {}
        return {name: (int(h), int(w), int(length), int(time)) for name, (h, w, length, time) in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(cache: Path, entries: dict[str, Entry]) -> None:
    """Write the cache atomically; log if the folder is not writable."""
    draft = cache.with_name(f".{cache.name}.{os.getpid()}.partial")
    try:
        # respect the permission bits even for root, who could write anyway
        if not cache.parent.stat().st_mode & 0o222:
            raise PermissionError(f"{cache.parent} is read-only")
        draft.write_text(json.dumps({"format": _FORMAT, "files": entries}))
        draft.replace(cache)
    except OSError as error:
        _log_unwritable(cache, str(error))


@functools.cache  # logged once per folder
def _log_unwritable(cache: Path, reason: str) -> None:
    log.info("%s cannot be written (%s): the sizes of the images are kept in memory and read again by the next run", cache, reason)


# PIL is not the fastest decoder (3.2 ms against cv2's 2.3 for 1333x800), but it reports truncated files;
# cv2 fills the missing rows with grey.
_CORRUPT = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """The pixels of ``path`` as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, transparency is dropped, CMYK is converted, 16 bits keep their upper 8, and of several
    frames the first is used. Up to 178,956,970 pixels are read without a warning, because photographs of 100 megapixels exist.
    PIL refuses larger images: a small file could fill the memory.

    Args:
        path: the file.
        upright: apply the EXIF orientation, like every viewer. Not for annotated images: annotations are in pixels of the
            file as it is stored.

    Raises:
        DataError: not a readable image, truncated, too large, or of a pixel format without a range (floating point).
    """
    try:
        with _opened(path) as image:
            image.load()
            if upright:
                _turn(image)
            return _rgb(image)
    except _CORRUPT as error:
        raise _unreadable(path, error) from error


def _turn(image: Image.Image) -> None:
    # corrupt EXIF data can raise anything in PIL; the pixels are valid nevertheless
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of ``path`` in pixels, from its header; corruption behind the header is not detected.

    Raises:
        DataError: not a readable image.
    """
    try:
        with _opened(path) as image:
            return image.height, image.width
    except _CORRUPT as error:
        raise _unreadable(path, error) from error


def _opened(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # raised from half of PIL's limit
        return Image.open(path)


def _unreadable(path: Path, error: Exception) -> DataError:
    found, remedy = str(error), "download or copy the file again; it may have been cut short"
    if isinstance(error, Image.DecompressionBombError):
        remedy = "scale the image down, or cut it into tiles"
    elif path.is_file():
        kind = file_kind(path)
        if kind is not None:
            found, remedy = f"{kind.name}: {error}" if kind.family == "image" else kind.name, kind.remedy or "give an image"
        found = f"{found} ({path.stat().st_size} bytes)"
    return DataError(
        f"{path.name} cannot be read as an image",
        where=path,
        expected="a complete JPEG, PNG or other image file",
        found=found,
        remedy=remedy,
    )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):  # 16 bits; PIL's own conversion would clip at 255
        grey = (np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
