"""Existing files whose names are spelled a little differently from a name that an annotation file has."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote


class NearFile(NamedTuple):
    """An existing file whose name resembles that of a missing one."""

    name: str  # relative to the image folder
    difference: str

    def __str__(self) -> str:
        return f"{self.name!r} exists, which differs in {self.difference}"


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
    return None if entry is None or not os.path.isfile(here / entry) else (here / entry).relative_to(folder).as_posix()


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
