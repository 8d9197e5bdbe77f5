"""Missing image files: which name was looked for, and a file whose name is spelled a little differently."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from cis_seg.errors import DataError, listing

#: the options that name the folder of the images in a run
IMAGE_OPTIONS = "data.images, or data.val_images for the scored set"


def missing_image(folder: Path, name: str, source: object, option: str = IMAGE_OPTIONS) -> DataError:
    """The error for an image that does not exist.

    Args:
        folder: the image folder.
        name: the file name in the annotation file, relative to ``folder``.
        source: the annotation file (and its line), for the message.
        option: the option that sets ``folder``.
    """
    path, near = folder / name, near_file(folder, name)
    remedy = "check the image folder, or complete the download"
    if near is not None:
        remedy = f"write {near.name!r} into {source}, or rename the file; file names are relative to the image folder ({option})"
    return DataError(
        f"image {PurePosixPath(name).name} is missing",
        where=path,
        expected=f"the file that {source} names",
        found=near or f"in {path.parent}: {listing(path.parent, most=5)}",
        remedy=remedy,
    )


class NearFile(NamedTuple):
    """An existing file whose name resembles that of a missing one."""

    name: str  # relative to the image folder
    difference: str

    def __str__(self) -> str:
        return f"{self.name!r} exists, which differs in {self.difference}"


def missing_text(folder: Path, name: str) -> str:
    """That an image is missing, and the near file if there is one; in one line."""
    near = near_file(folder, name)
    return f"{folder / name} is missing" + (f"; {near}" if near else "")


def near_file(folder: Path, name: str) -> NearFile | None:
    """The file in ``folder`` that ``name`` most likely means; None if there is none."""
    for reading, difference in _readings(name):
        for candidate, folders in ((reading, ""), (PurePosixPath(reading).name, "the folder")):
            found = _match(folder, PurePosixPath(candidate))
            if found is not None and found != name:
                differences = [difference, folders, _difference(candidate, found)]
                return NearFile(found, " and ".join(part for part in differences if part))
    return None


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """``name`` as other systems write it, and what differs."""
    yield name, ""
    slashes, decoded = name.replace("\\", "/"), unquote(name)
    if slashes != name:
        yield slashes, "backslashes as separators"
    if decoded != name:
        yield decoded, "% codes"
    if name not in (slashes, decoded):
        yield unquote(slashes), "backslashes as separators and % codes"


def _match(folder: Path, name: PurePosixPath) -> str | None:
    """The file below ``folder`` with this name, up to case, Unicode form and the extension; relative to ``folder``."""
    here = folder
    for part in name.parts[:-1]:
        entry = None if part in ("..", "/") else _entries(here).get(_key(part))
        if entry is None:
            return None
        here /= entry
    last = PurePosixPath(name.name)
    entry = _entries(here).get(_key(last.name)) or _stems(here).get(_key(last.stem))
    return None if entry is None or not (here / entry).is_file() else (here / entry).relative_to(folder).as_posix()


def _difference(name: str, found: str) -> str:
    if name == found:
        return ""
    composed, existing = (unicodedata.normalize("NFC", text) for text in (name, found))
    if composed == existing:
        return "the Unicode form of its accents (composed or decomposed)"
    return "upper and lower case" if composed.casefold() == existing.casefold() else "the extension"


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _entries(folder: Path) -> dict[str, str]:
    """The names in a folder by their spelling without case and Unicode form."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=8)  # because thousands of files can be missing from one folder
def _listed(folder: Path, _changed: int) -> dict[str, str]:
    return {_key(path.name): path.name for path in folder.iterdir()}


def _stems(folder: Path) -> dict[str, str]:
    try:
        return _listed_stems(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=8)
def _listed_stems(folder: Path, changed: int) -> dict[str, str]:
    return {_key(Path(name).stem): name for name in _listed(folder, changed).values()}
