"""CrowdHuman's ``.odgt`` records, one JSON object a line: what they hold, and which of their entries are people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cis_seg.data.checks import check_file_name, listing
from cis_seg.data.faults import UNUSABLE_LINE, Faults
from cis_seg.errors import ConfigError, DataError

BoxKind = Literal["visible", "full", "head"]
BOX_KEYS = {"visible": "vbox", "full": "fbox", "head": "hbox"}


@dataclass(frozen=True)
class OdgtRecord:
    """One line of the file."""

    image_id: int  # the line, counted from 0 (as in CIS.json)
    where: str  # file and line, for messages
    file_name: str  # ID + ".jpg"
    entries: list[dict[str, Any]]  # of "gtboxes", unchecked


def box_key(kind: str) -> str:
    """The key of an entry that holds its box of this kind.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in BOX_KEYS:
        raise ConfigError(
            "there is no such kind of box",
            where="data.boxes",
            expected=" or ".join(BOX_KEYS),
            found=kind,
            remedy="visible boxes are the default",
        )
    return BOX_KEYS[kind]


def read_records(path: Path, faults: Faults) -> Iterator[OdgtRecord]:
    """The records of ``path``, read one after another; lines that cannot be used go to ``faults``.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(
            "there is no annotation file",
            where=path,
            expected="a CrowdHuman .odgt file",
            found=f"odgt files in {path.parent}: {listing(path.parent, '*.odgt')}",
            remedy="give the path of the .odgt file",
        )
    seen: set[str] = set()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = _record(line, number - 1, where)
                _refuse_twice(record, seen)
            except DataError as error:
                faults.add(UNUSABLE_LINE, where, error)
                continue
            yield record


def is_person(entry: dict[str, Any], key: str, *, culprit: str, where: str) -> bool:
    """Whether an entry's box ``key`` is a person's; else it is a region to ignore.

    People have the tag ``person`` and no ``extra.ignore`` of 1; other tags (``mask``: a crowd, a statue, a reflection) are regions.
    ``head_attr.ignore`` speaks of the head alone and decides for ``hbox`` alone. Both are mostly absent, which means 0.

    Raises:
        DataError: no tag, or a mark that is neither 0 nor 1.
    """
    tag = entry.get("tag")
    if not isinstance(tag, str):
        remedy = "correct this entry or delete it"
        raise DataError(f"{culprit} has no tag", where=where, expected="'person' or 'mask'", found=repr(tag), remedy=remedy)
    ignored = _marked(entry, "extra", culprit, where) or (key == "hbox" and _marked(entry, "head_attr", culprit, where))
    return tag == "person" and not ignored


def _marked(entry: dict[str, Any], group: str, culprit: str, where: str) -> bool:
    """``ignore`` of ``extra`` or ``head_attr``."""
    attributes = entry.get(group) or {}
    ignore = attributes.get("ignore", 0) if isinstance(attributes, dict) else attributes
    if not isinstance(ignore, int | float) or ignore not in (0, 1):
        remedy = "correct this entry or delete it"
        expected = f"an object {group} whose 'ignore', where it has one, is 0 or 1"
        raise DataError(f"{culprit} has no usable {group}", where=where, expected=expected, found=str(attributes)[:80], remedy=remedy)
    return ignore == 1


def image_state(path: Path) -> str:
    """Why the size of an image is not known, in words."""
    try:
        return "cannot be read as an image" if path.is_file() else "is missing"
    except OSError as error:
        return f"cannot be a file: {error.strerror}"


def _record(line: bytes, image_id: int, where: str) -> OdgtRecord:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, a number of thousands of digits; nested too deep
        found = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(
            "a record is not valid JSON",
            where=where,
            expected="one JSON object a line",
            found=found,
            remedy="the file is damaged or cut short: download or write it again",
        ) from error
    entries = content.get("gtboxes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            "a record has no boxes",
            where=where,
            expected="an object with 'ID' and the list 'gtboxes'",
            found=line[:80].decode(errors="replace"),
            remedy="use annotation_train.odgt or annotation_val.odgt of CrowdHuman",
        )
    name = content.get("ID")
    file_name = check_file_name(f"{name}.jpg" if isinstance(name, str) and name else name, culprit=f"image {name!r}", where=where)
    return OdgtRecord(image_id, where, file_name, entries)


def _refuse_twice(record: OdgtRecord, seen: set[str]) -> None:
    if record.file_name in seen:
        raise DataError(
            f"image {record.file_name} is listed twice",
            where=record.where,
            expected="one record an image",
            remedy="merge the records or delete one",
        )
    seen.add(record.file_name)
