"""Reader of CrowdHuman's ``.odgt`` files."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from cis_seg.data.checks import NO_AREA, OUTSIDE, inside, parse_box, report_dropped
from cis_seg.data.faults import EMPTY_RECORD, MAX_FAULTY, MISSING_IMAGE, UNUSABLE_LINE, Fault, Faults
from cis_seg.data.image_sizes import image_sizes
from cis_seg.data.odgt import BoxKind, OdgtRecord, box_key, image_state, is_person, read_records
from cis_seg.data.records import ImageRecord, InstanceDataset, missing_folder, pack
from cis_seg.errors import DataError

log = logging.getLogger(__name__)


class CrowdHumanDataset(InstanceDataset):
    """The images of an ``.odgt`` file, one class: person.

    The id of an image is its line, counted from 0 (as in CIS.json). Entries that are no person are regions to ignore (``odgt.is_person``):
    they never train as boxes and are kept in ``records.ignore_boxes``. The file does not hold the sizes of the images, so they are read
    from the images themselves once (``image_sizes``); boxes, which leave the image often, are clipped to it.

    Args:
        annotations: the ``.odgt`` file.
        images: folder with ``<ID>.jpg``.
        boxes: ``visible`` takes what is seen of a person (``vbox``), ``full`` the guessed whole body (``fbox``), ``head`` the head
            (``hbox``).
        keep_empty: keep the images without a person.
        ignore_regions: samples carry the regions to ignore, so that what is in them does not train as background.
        max_faulty: share of the records that may be faulty of any one kind: a missing or unreadable image, a line that cannot be used,
            a record without any entry (no fault with ``keep_empty``). They are left out, counted and listed in ``faults``.

    Raises:
        ConfigError: there is no such kind of box, or no such share.
        DataError: a missing file or folder, or too many faulty records.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        boxes: BoxKind = "visible",
        keep_empty: bool = False,
        ignore_regions: bool = True,
        max_faulty: float = MAX_FAULTY,
    ) -> None:
        faults, dropped = Faults(annotations, max_faulty), Counter[str]()
        found, total = _read(annotations, images, box_key(boxes), faults, dropped, keep_empty)
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
            log.info("%s: %d images show nobody to train on and are left out", annotations, len(found) - len(kept))
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
    """The images that can be used, and the number of all records."""
    read: list[tuple[str, ImageRecord]] = []
    for record in read_records(path, faults):
        try:
            image = image_record(record, key, dropped)
        except DataError as error:
            faults.add(UNUSABLE_LINE, record.where, error)
            continue
        if record.entries or keep_empty:
            read.append((record.where, image))
        else:
            faults.add(EMPTY_RECORD, record.where, f"{record.file_name} has no entry at all ({record.where})")
    total = len(read) + len(faults.listed)
    return with_sizes(read, images, path, faults, dropped), total


def image_record(record: OdgtRecord, key: str, dropped: Counter[str]) -> ImageRecord:
    """The boxes ``key`` of a record, not yet clipped: people's in ``boxes``, regions in ``ignored``; empty ones are counted in ``dropped``.

    Raises:
        DataError: an entry makes no sense.
    """
    image = ImageRecord(record.image_id, record.file_name)
    for place, entry in enumerate(record.entries):
        culprit = f"entry {place} of image {record.file_name.removesuffix('.jpg')!r}"
        box = parse_box(entry.get(key), culprit=f"{key} of {culprit}", where=record.where)
        person = is_person(entry, key, culprit=culprit, where=record.where)
        if box is None:
            dropped[NO_AREA] += 1
        elif person:
            image.boxes.append(box)
            image.labels.append(0)
        else:
            image.ignored.append(box)
    return image


def with_sizes(read: list[tuple[str, ImageRecord]], images: Path, source: Path, faults: Faults, dropped: Counter[str]) -> list[ImageRecord]:
    """The images that are there, with their size, their boxes cut to it; the others go to ``faults``.

    Args:
        read: file and line of each image, for messages, and its boxes as annotated.
        images: the image folder.
        source: the annotation file.
        faults, dropped: where images and boxes that are left out are counted.

    Raises:
        DataError: there is no image folder.
    """
    if not images.is_dir():
        raise missing_folder(images, source)
    sizes = image_sizes(images, [image.file_name for _, image in read])
    kept = []
    for where, image in read:
        if image.file_name not in sizes:
            faults.add(MISSING_IMAGE, where, f"{images / image.file_name} {image_state(images / image.file_name)} ({where})")
            continue
        image.size = sizes[image.file_name]
        cut = [inside(box, image.size) for box in image.boxes]
        dropped[OUTSIDE] += cut.count(None)
        image.boxes = [box for box in cut if box is not None]
        image.labels = [0] * len(image.boxes)
        image.ignored = [box for region in image.ignored if (box := inside(region, image.size)) is not None]
        kept.append(image)
    return kept
