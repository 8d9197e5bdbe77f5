"""The records of CrowdHuman's ``.odgt`` files: one JSON object per line, or one array of them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.coco.boxes import Box, corners
from cis_seg.coco.checks import check_box, check_file_name, is_side
from cis_seg.coco.reader import collector_paused, warn_once
from cis_seg.coco.spelling import Spelling
from cis_seg.data.faults import UNUSABLE_LINE, Faults
from cis_seg.errors import DataError, listing
from cis_seg.runtime.file_kinds import JSON, file_kind

#: kind of box -> its key in an entry
BOX_KEYS = {"visible": "vbox", "full": "fbox", "head": "hbox"}
_SUFFIXES = (".jpg", ".jpeg", ".png")  # an ID that ends with one of them is a file name already
_HEAD = 64  # bytes in which the start of an array is looked for
_TAGS = ("person", "mask")
_REMEDY = "correct this entry or delete it"


@dataclass(frozen=True)
class OdgtRecord:
    """One record of the file."""

    image_id: int  # its place among the lines or in the array, from 0 (as in CIS.json)
    source: Path
    where: str  # file and line, for messages
    file_name: str  # ID + ".jpg"
    entries: list[dict[str, Any]]  # of "gtboxes", unchecked, numbers in quotes read as numbers
    size: tuple[int, int] | None = None  # (height, width) in pixels; CrowdHuman's own files state none


def read_records(path: Path, faults: Faults, images: Path) -> Iterator[OdgtRecord]:
    """Read the records of ``path`` one by one; those that cannot be used are added to ``faults``, with a near file of ``images``.

    Raises:
        DataError: the file does not exist, or is of another format.
    """
    if not path.is_file():
        raise DataError(
            "the annotation file does not exist",
            where=path,
            expected="a CrowdHuman .odgt file",
            found=f"odgt files in {path.parent}: {listing(path.parent, '*.odgt')}",
            remedy="pass the path of the .odgt file",
        )
    seen: set[str] = set()
    spelling = Spelling()
    for place, where, text in _texts(path):
        try:
            record = _record(parsed_line(text, where), place, path, where, images)
            _refuse_twice(record, seen)
        except DataError as error:
            faults.add(UNUSABLE_LINE, where, error)
            continue
        for entry in record.entries:
            _unquote(entry, spelling)
        yield record
    if not seen and (kind := file_kind(path)) is not None and kind.name != JSON:
        expected = "a CrowdHuman .odgt file: one JSON object per line"
        raise DataError(f"{path.name} has no records", where=path, expected=expected, found=kind.name, remedy=kind.remedy or None)
    for note in spelling.notes():
        warn_once(f"{path}: {note}")


def _texts(path: Path) -> Iterator[tuple[int, str, bytes | dict[str, Any]]]:
    """Place and origin of each record, and its line, or its content if the file is one array."""
    with path.open("rb") as lines:
        if lines.read(_HEAD).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[") and (array := _array(path)) is not None:
            yield from ((place, f"{path}, record {place + 1}", content) for place, content in enumerate(array))
            return
        lines.seek(0)
        for place, line in enumerate(lines):
            if line.strip():
                yield place, f"{path}, line {place + 1}", line


def _array(path: Path) -> list[Any] | None:
    """The content of a file that is one JSON array; None if it is not."""
    try:
        with collector_paused():
            content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, list) else None


def checked_entries(record: OdgtRecord, key: str) -> Iterator[tuple[dict[str, Any], Box | None, bool]]:
    """Each entry of a record, its box ``key`` as annotated (xyxy, None without area), and whether it is a person's.

    Raises:
        DataError: an entry is invalid.
    """
    for place, entry in enumerate(record.entries):
        culprit = f"entry {place} of image {record.file_name.removesuffix('.jpg')!r}"
        if key not in entry and (others := [kind for kind, other in BOX_KEYS.items() if isinstance(entry.get(other), list)]):
            raise DataError(
                f"{culprit} has no {key}",
                where=record.where,
                expected=f"the key {key} with [x, y, width, height]",
                found=", ".join(entry),
                remedy=f"use other boxes of the file: {' or '.join(f'data.boxes={kind}' for kind in others)}",
            )
        box = corners(check_box(entry.get(key), culprit=f"{key} of {culprit}", where=record.where))
        yield entry, box, _is_person(entry, key, record, culprit)


def _is_person(entry: dict[str, Any], key: str, record: OdgtRecord, culprit: str) -> bool:
    """Whether an entry's box ``key`` is a person's; otherwise it is an ignore region.

    People have the tag ``person`` and no ``extra.ignore`` of 1. Other tags (``mask``: a crowd, a statue, a reflection) are ignore regions.
    ``head_attr.ignore`` refers to the head and applies to ``hbox`` only. Both are mostly absent, which means 0.

    Raises:
        DataError: no tag, or an ``ignore`` that is neither 0 nor 1.
    """
    tag = entry.get("tag")
    if not isinstance(tag, str):
        raise DataError(f"{culprit} has no tag", where=record.where, expected="'person' or 'mask'", found=repr(tag), remedy=_REMEDY)
    ignored = _marked(entry, "extra", culprit, record.where) or (key == "hbox" and _marked(entry, "head_attr", culprit, record.where))
    if tag not in _TAGS:
        tag = tag.strip().casefold()
        if tag not in _TAGS:
            warn_once(f"{record.source}: entries with the tag {tag!r} are ignore regions: only the tag 'person' marks people")
    return tag == "person" and not ignored


def _marked(entry: dict[str, Any], group: str, culprit: str, where: str) -> bool:
    """``ignore`` of ``extra`` or ``head_attr``."""
    attributes = entry.get(group) or {}
    ignore = attributes.get("ignore", 0) if isinstance(attributes, dict) else attributes
    if not isinstance(ignore, int | float) or ignore not in (0, 1):
        expected = f"an object {group} with 'ignore' 0, 1 or absent"
        raise DataError(f"{culprit} has no usable {group}", where=where, expected=expected, found=str(attributes)[:80], remedy=_REMEDY)
    return ignore == 1


def _unquote(entry: dict[str, Any], spelling: Spelling) -> None:
    """Replace numbers in quotes."""
    for key in BOX_KEYS.values():
        spelling.numbers(entry, key)
    for group in ("extra", "head_attr"):
        if isinstance(attributes := entry.get(group), dict) and isinstance(attributes.get("ignore"), str):
            spelling.whole(attributes, "ignore")


def parsed_line(text: bytes | dict[str, Any], where: str) -> Any:
    """The content of a line; an entry of an array is parsed already.

    Raises:
        DataError: not JSON.
    """
    if not isinstance(text, bytes):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, a number of thousands of digits; nested too deep
        found = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(
            "a record is not valid JSON",
            where=where,
            expected="one JSON object per line",
            found=found,
            remedy="the file is corrupt or truncated: download or write it again",
        ) from error


def _record(content: Any, image_id: int, source: Path, where: str, images: Path) -> OdgtRecord:
    entries = content.get("gtboxes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            "a record has no boxes",
            where=where,
            expected="an object with 'ID' and the list 'gtboxes'",
            found=json.dumps(content)[:80],
            remedy="use annotation_train.odgt or annotation_val.odgt of CrowdHuman",
        )
    name = content.get("ID")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    file_name = f"{name}.jpg" if isinstance(name, str) and name and not name.lower().endswith(_SUFFIXES) else name
    file_name = check_file_name(file_name, culprit=f"image {name!r}", where=where, folder=images)
    height, width = content.get("height"), content.get("width")
    size = (height, width) if is_side(height) and is_side(width) else None
    return OdgtRecord(image_id, source, where, file_name, entries, size)


def _refuse_twice(record: OdgtRecord, seen: set[str]) -> None:
    if record.file_name in seen:
        raise DataError(
            f"image {record.file_name} is listed twice",
            where=record.where,
            expected="one record per image",
            remedy="merge the records or delete one",
        )
    seen.add(record.file_name)
