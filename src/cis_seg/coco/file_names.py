"""Match file names, of a results file or of a folder of images, with the images of a COCO json; find files that are spelled differently."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from cis_seg.errors import DataError

_SHOWN = 3  # ambiguous candidates in a message
_MOST = 20_000  # files that are looked at below a folder: a listing of more takes seconds


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
    below = _below(folder).get(_key(PurePosixPath(name.replace("\\", "/")).name))
    return None if below is None else NearFile(below, "the folder")


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


@functools.lru_cache(maxsize=8)
def _below(folder: Path) -> dict[str, str]:
    """The files in the folders below ``folder``, relative to it, by the spelling of their names; the first ones of many."""
    names: dict[str, str] = {}
    for parent, _, files in os.walk(folder):
        if Path(parent) != folder:
            names |= {_key(name): Path(parent, name).relative_to(folder).as_posix() for name in files}
        if len(names) > _MOST:
            break
    return names


def _stems(folder: Path) -> dict[str, str]:
    try:
        return _listed_stems(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=8)
def _listed_stems(folder: Path, changed: int) -> dict[str, str]:
    return {_key(Path(name).stem): name for name in _listed(folder, changed).values()}


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
