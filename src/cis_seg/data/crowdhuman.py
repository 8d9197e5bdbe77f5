"""Reader of CrowdHuman's ``.odgt`` files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.coco.boxes import Box, corners, inside
from cis_seg.coco.checks import check_box, check_file_name
from cis_seg.data.faults import (
    EMPTY_RECORD,
    MAX_FAULTY,
    MISSING_IMAGE,
    NO_AREA,
    OUTSIDE,
    UNUSABLE_LINE,
    Fault,
    Faults,
    report_dropped,
)
from cis_seg.data.image_sizes import image_sizes
from cis_seg.data.missing import missing_text
from cis_seg.data.records import ImageRecord, InstanceDataset, missing_folder, pack
from cis_seg.errors import DataError, listing

#: kind of box -> its key in an entry
BOX_KEYS = {"visible": "vbox", "full": "fbox", "head": "hbox"}


@dataclass(frozen=True)
class OdgtRecord:
    """One line of the file."""

    image_id: int  # the line number, from 0 (as in CIS.json)
    where: str  # file and line, for messages
    file_name: str  # ID + ".jpg"
    entries: list[dict[str, Any]]  # of "gtboxes", unchecked


def read_records(path: Path, faults: Faults) -> Iterator[OdgtRecord]:
    """Read the records of ``path`` one by one; lines that cannot be used are added to ``faults``.

    Raises:
        DataError: the file does not exist.
    """
    if not path.is_file():
        raise DataError(
            "the annotation file does not exist",
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
    """Whether an entry's box ``key`` is a person's; otherwise it is an ignore region.

    People have the tag ``person`` and no ``extra.ignore`` of 1. Other tags (``mask``: a crowd, a statue, a reflection) are ignore regions.
    ``head_attr.ignore`` refers to the head and applies to ``hbox`` only. Both are mostly absent, which means 0.

    Raises:
        DataError: no tag, or an ``ignore`` that is neither 0 nor 1.
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
        expected = f"an object {group} with 'ignore' 0, 1 or absent"
        raise DataError(f"{culprit} has no usable {group}", where=where, expected=expected, found=str(attributes)[:80], remedy=remedy)
    return ignore == 1


def missing_image(folder: Path, name: str, where: str) -> str:
    """Why the size of the image of a record is unknown."""
    try:
        found = f"{folder / name} cannot be read as an image" if (folder / name).is_file() else missing_text(folder, name)
    except OSError as error:
        found = f"{folder / name} cannot be a file: {error.strerror}"
    return f"{found} ({where})"


def checked_entries(record: OdgtRecord, key: str) -> Iterator[tuple[dict[str, Any], Box | None, bool]]:
    """Each entry of a record, its box ``key`` as annotated (xyxy, None without area), and whether it is a person's.

    Raises:
        DataError: an entry is invalid.
    """
    for place, entry in enumerate(record.entries):
        culprit = f"entry {place} of image {record.file_name.removesuffix('.jpg')!r}"
        box = corners(check_box(entry.get(key), culprit=f"{key} of {culprit}", where=record.where))
        yield entry, box, is_person(entry, key, culprit=culprit, where=record.where)


def _record(line: bytes, image_id: int, where: str) -> OdgtRecord:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, a number of thousands of digits; nested too deep
        found = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(
            "a record is not valid JSON",
            where=where,
            expected="one JSON object per line",
            found=found,
            remedy="the file is corrupt or truncated: download or write it again",
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
            expected="one record per image",
            remedy="merge the records or delete one",
        )
    seen.add(record.file_name)


log = logging.getLogger(__name__)


class CrowdHumanDataset(InstanceDataset):
    """The images of an ``.odgt`` file, one class: person.

    The id of an image is its line number, from 0 (as in CIS.json). Entries other than people are ignore regions (``is_person``): they never
    train as boxes and are kept in ``records.ignore_boxes``. The file does not state the sizes of the images, so they are read once from
    the images themselves (``image_sizes``). Boxes often leave the image and are clipped to it.

    Args:
        annotations: the ``.odgt`` file.
        images: folder with ``<ID>.jpg``.
        boxes: ``visible`` takes the visible part of a person (``vbox``), ``full`` the estimated full body (``fbox``), ``head`` the head
            (``hbox``).
        keep_empty: keep the images without a person.
        ignore_regions: samples carry the ignore regions, so that locations inside do not train as background.
        max_faulty: share of the records that may be faulty of each kind: a missing or unreadable image, a line that cannot be used,
            a record without any entry (not a fault with ``keep_empty``). They are left out, counted and listed in ``faults``.

    Raises:
        ConfigError: a share outside [0, 1].
        DataError: a missing file or folder, or too many faulty records.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        boxes: str = "visible",
        keep_empty: bool = False,
        ignore_regions: bool = True,
        max_faulty: float = MAX_FAULTY,
    ) -> None:
        faults, dropped = Faults(annotations, max_faulty), Counter[str]()
        found, total = _read(annotations, images, BOX_KEYS[boxes], faults, dropped, keep_empty)
        faults.settle(total)
        report_dropped(annotations, dropped)
        kept = [image for image in found if keep_empty or image.boxes]
        if not kept:
            raise DataError(
                "no image is left to train on",
                where=annotations,
                expected="records with a person",
                found=f"{total} records without any",
                remedy="check the file, or set keep_empty=true",
            )
        if len(kept) < len(found):
            log.info("%s: left out %d images without a person to train on", annotations, len(found) - len(kept))
        super().__init__(
            pack(kept, with_segmentations=False),
            images,
            class_names=("person",),
            category_ids=(1,),
            source=annotations,
            ignore_regions=ignore_regions,
        )
        self.faults: tuple[Fault, ...] = tuple(faults.listed)


def _read(path: Path, images: Path, key: str, faults: Faults, dropped: Counter[str], keep_empty: bool) -> tuple[list[ImageRecord], int]:
    """The usable images, and the number of all records."""
    read: list[tuple[str, ImageRecord]] = []
    for record in read_records(path, faults):
        try:
            image = _image_record(record, key, dropped)
        except DataError as error:
            faults.add(UNUSABLE_LINE, record.where, error)
            continue
        if record.entries or keep_empty:
            read.append((record.where, image))
        else:
            faults.add(EMPTY_RECORD, record.where, f"{record.file_name} has no entry at all ({record.where})")
    total = len(read) + len(faults.listed)
    return _with_sizes(read, images, path, faults, dropped), total


def _image_record(record: OdgtRecord, key: str, dropped: Counter[str]) -> ImageRecord:
    """The boxes ``key`` of a record, not yet clipped: people's in ``boxes``, ignore regions in ``ignored``; empty ones are counted."""
    image = ImageRecord(record.image_id, record.file_name)
    for _, box, person in checked_entries(record, key):
        if box is None:
            dropped[NO_AREA] += 1
        else:
            (image.boxes if person else image.ignored).append(box)
    return image


def _with_sizes(
    read: list[tuple[str, ImageRecord]], images: Path, source: Path, faults: Faults, dropped: Counter[str]
) -> list[ImageRecord]:
    """The images whose file exists, with their size and clipped boxes; the others are added to ``faults``.

    Args:
        read: file and line of each image, for messages, and its boxes as annotated.
        images: the image folder.
        source: the annotation file.
        faults, dropped: count the images and boxes that are left out.

    Raises:
        DataError: the image folder does not exist.
    """
    if not images.is_dir():
        raise missing_folder(images, source)
    sizes = image_sizes(images, [image.file_name for _, image in read])
    kept = []
    for where, image in read:
        if image.file_name not in sizes:
            faults.add(MISSING_IMAGE, where, missing_image(images, image.file_name, where))
            continue
        image.size = sizes[image.file_name]
        clipped = [inside(box, image.size) for box in image.boxes]
        dropped[OUTSIDE] += clipped.count(None)
        image.boxes = [box for box in clipped if box is not None]
        image.labels = [0] * len(image.boxes)
        image.ignored = [box for region in image.ignored if (box := inside(region, image.size)) is not None]
        kept.append(image)
    return kept
