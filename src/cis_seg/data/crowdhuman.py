"""The data set of a CrowdHuman ``.odgt`` file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cis_seg.coco.boxes import check_format, inside
from cis_seg.coco.entries import Annotation
from cis_seg.coco.file_names import near_file
from cis_seg.coco.reader import warn_once
from cis_seg.coco.suspicious import find_suspects, summaries
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
from cis_seg.data.image_files import missing_text
from cis_seg.data.image_sizes import image_sizes
from cis_seg.data.odgt import BOX_KEYS, OdgtRecord, checked_entries, read_records
from cis_seg.data.records import ImageRecord, InstanceDataset, missing_folder, pack
from cis_seg.errors import DataError


def find_images(folder: Path, names: Sequence[str], source: Path, exif: str = "ignore") -> dict[str, tuple[str, tuple[int, int]]]:
    """The existing file and the (height, width) of each of the ``names``; files that are missing or no images are left out.

    A record states no extension, so that ``ID.png`` or ``ID.JPG`` is the image if there is no ``ID.jpg``. A warning counts these.
    """
    sizes = image_sizes(folder, names, exif)
    near = {name: file.name for name in names if name not in sizes and (file := near_file(folder, name)) is not None}
    near = {name: other for name, other in near.items() if Path(other).with_suffix("") == Path(name).with_suffix("")}
    other_sizes = image_sizes(folder, list(near.values()), exif)
    found = {name: (name, size) for name, size in sizes.items()}
    found |= {name: (other, other_sizes[other]) for name, other in near.items() if other in other_sizes}
    if len(found) > len(sizes):
        example = next(other for name, other in near.items() if name in found)
        warn_once(f"{source}: {len(found) - len(sizes)} images have another extension than .jpg, for example {example}")
    return found


def missing_image(folder: Path, name: str, where: str) -> str:
    """Why the size of the image of a record is unknown."""
    try:
        found = f"{folder / name} cannot be read as an image" if (folder / name).is_file() else missing_text(folder, name)
    except OSError as error:
        found = f"{folder / name} cannot be a file: {error.strerror}"
    return f"{found} ({where})"


log = logging.getLogger(__name__)


class CrowdHumanDataset(InstanceDataset):
    """The images of an ``.odgt`` file, one class: person.

    The id of an image is its line number, from 0 (as in CIS.json). Entries other than people are ignore regions (``data.odgt``): they never
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
        exif: ``apply`` or ``ignore`` the EXIF orientation of the photos (``read_image``).

    Raises:
        ConfigError: a share outside [0, 1].
        DataError: a missing file or folder, or too many faulty records.
    """

    sizes_from_files = True

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        boxes: str = "visible",
        keep_empty: bool = False,
        ignore_regions: bool = True,
        max_faulty: float = MAX_FAULTY,
        exif: str = "ignore",
    ) -> None:
        faults, dropped = Faults(annotations, max_faulty), Counter[str]()
        found, total = _read(annotations, images, BOX_KEYS[boxes], faults, dropped, keep_empty, exif)
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
            exif=exif,
        )
        self.faults: tuple[Fault, ...] = tuple(faults.listed)


def _read(
    path: Path, images: Path, key: str, faults: Faults, dropped: Counter[str], keep_empty: bool, exif: str
) -> tuple[list[ImageRecord], int]:
    """The usable images, and the number of all records."""
    read: list[tuple[str, ImageRecord]] = []
    for record in read_records(path, faults, images):
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
    return _with_sizes(read, images, path, faults, dropped, exif), total


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
    read: list[tuple[str, ImageRecord]], images: Path, source: Path, faults: Faults, dropped: Counter[str], exif: str
) -> list[ImageRecord]:
    """The images whose file exists, with their size and clipped boxes; the others are added to ``faults``.

    Args:
        read: file and line of each image, for messages, and its boxes as annotated.
        images: the image folder.
        source: the annotation file.
        faults, dropped: count the images and boxes that are left out.
        exif: ``apply`` or ``ignore`` the EXIF orientation.

    Raises:
        DataError: the image folder does not exist.
    """
    if not images.is_dir():
        raise missing_folder(images, source)
    found = find_images(images, [image.file_name for _, image in read], source, exif)
    kept = []
    for where, image in read:
        if image.file_name in found:
            image.file_name, image.size = found[image.file_name]
            kept.append(image)
        else:
            faults.add(MISSING_IMAGE, where, missing_image(images, image.file_name, where))
    _check_boxes(kept, source)
    for image in kept:
        clipped = [inside(box, image.size) for box in image.boxes]
        dropped[OUTSIDE] += clipped.count(None)
        image.boxes = [box for box in clipped if box is not None]
        image.labels = [0] * len(image.boxes)
        image.ignored = [box for region in image.ignored if (box := inside(region, image.size)) is not None]
    return kept


def _check_boxes(images: list[ImageRecord], source: Path) -> None:
    """Check the boxes of the file as a whole, before they are clipped."""
    people = [(image, place, [x0, y0, x1 - x0, y1 - y0]) for image in images for place, (x0, y0, x1, y1) in enumerate(image.boxes)]
    if (note := check_format([box for *_, box in people], [image.size for image, *_ in people], source)) is not None:
        warn_once(f"{source}: {note}")
    for note in summaries([*find_suspects({}, [Annotation({}, place, image.image_id, 0, box, False) for image, place, box in people])]):
        warn_once(f"{source}: {note}")
