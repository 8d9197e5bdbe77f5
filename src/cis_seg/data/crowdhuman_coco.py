"""CrowdHuman's ``.odgt`` records as COCO json, and back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from cis_seg.coco.boxes import inside
from cis_seg.coco.reader import read_coco
from cis_seg.data.crowdhuman import find_images, missing_image
from cis_seg.data.faults import MAX_FAULTY, MISSING_IMAGE, NO_AREA, OUTSIDE, UNUSABLE_LINE, DroppedBox, Faults, report_dropped
from cis_seg.data.odgt import BOX_KEYS, OdgtRecord, checked_entries, read_records
from cis_seg.data.records import missing_folder
from cis_seg.errors import DataError

Json = dict[str, Any]
PERSON = 1  # category id, as in COCO and in CIS.json

#: what an annotation keeps of its odgt entry, under the same names
_ENTRY_KEYS = ("tag", "hbox", "head_attr", "fbox", "vbox", "extra")


def to_coco(
    annotations: Path, images: Path, *, boxes: str = "visible", max_faulty: float = MAX_FAULTY, exif: str = "ignore"
) -> tuple[Json, Faults]:
    """Convert a CrowdHuman split to a COCO instances json with boxes only.

    The id of an image is its line number, from 0 as in CIS.json. Annotation ids start at 1, because COCOeval reads a match with
    annotation 0 as no match. Ignore regions become crowd regions (``iscrowd`` 1), so COCO's scoring counts no detection inside them
    as wrong. ``bbox`` is clipped to the image, ``area`` is its area. An annotation also keeps the keys of its odgt entry, for ``to_odgt``.

    Args:
        annotations: the ``.odgt`` file.
        images: folder with ``<ID>.jpg``; their sizes are read from it.
        boxes: which box becomes ``bbox``: ``visible``, ``full`` or ``head``.
        exif: ``apply`` or ``ignore`` the EXIF orientation in the sizes.
        max_faulty: see ``CrowdHumanDataset``. Records without any entry are kept: their image shows nobody.

    Returns:
        The content of the json, and the records and single boxes that are left out.

    Raises:
        ConfigError: a share outside [0, 1].
        DataError: a missing file or folder, or too many faulty records.
    """
    if not images.is_dir():
        raise missing_folder(images, annotations)
    key, faults = BOX_KEYS[boxes], Faults(annotations, max_faulty)
    records = list(read_records(annotations, faults, images))
    existing = find_images(images, [record.file_name for record in records], annotations, exif)
    content: Json = {"info": {"description": f"{annotations.name}, {boxes} boxes"}, "images": [], "annotations": []}
    for record in records:
        if record.file_name not in existing:
            faults.add(MISSING_IMAGE, record.where, missing_image(images, record.file_name, record.where))
            continue
        file_name, size = existing[record.file_name]
        try:
            found, dropped = record_annotations(record, key, size)
        except DataError as error:
            faults.add(UNUSABLE_LINE, record.where, error)
            continue
        faults.boxes += dropped
        content["images"].append({"id": record.image_id, "file_name": file_name, "height": size[0], "width": size[1]})
        content["annotations"] += [{"id": len(content["annotations"]) + i, **entry} for i, entry in enumerate(found, start=1)]
    content["categories"] = [{"id": PERSON, "name": "person"}]
    faults.settle(len(content["images"]) + len(faults.listed))
    report_dropped(annotations, Counter(box.reason for box in faults.boxes))
    return content, faults


def record_annotations(record: OdgtRecord, key: str, size: tuple[int, int]) -> tuple[list[Json], list[DroppedBox]]:
    """The entries of a record as annotations without id, and those without a box inside the image.

    Raises:
        DataError: an entry is invalid.
    """
    found, dropped = [], []
    for place, (entry, whole, person) in enumerate(checked_entries(record, key)):
        box = None if whole is None else inside(whole, size)
        if box is None:
            described = f"{key} of entry {place} ({'person' if person else 'ignore region'}): {entry[key]}"
            dropped.append(DroppedBox(NO_AREA if whole is None else OUTSIDE, record.image_id, described))
            continue
        width, height = box[2] - box[0], box[3] - box[1]
        shape = {"bbox": [box[0], box[1], width, height], "area": width * height, "iscrowd": int(not person)}
        kept = {name: entry[name] for name in _ENTRY_KEYS if name in entry}
        found.append({"image_id": record.image_id, "category_id": PERSON, **shape, **kept})
    return found, dropped


def to_odgt(path: Path) -> list[Json]:
    """The odgt records of a json that ``to_coco`` wrote, in the order of its images.

    Raises:
        DataError: not a COCO json, or its annotations have no odgt entries.
    """
    file = read_coco(path)
    boxes: dict[int, list[Json]] = {image_id: [] for image_id in file.images}
    for annotation in file.annotations:
        if "tag" not in annotation.entry:
            raise DataError(
                f"annotation {annotation.id} has no odgt entry",
                where=path,
                expected=f"the keys {', '.join(_ENTRY_KEYS)} besides COCO's",
                found=", ".join(annotation.entry),
                remedy="use a json that cis-seg crowdhuman wrote",
            )
        boxes[annotation.image_id].append({name: annotation.entry[name] for name in _ENTRY_KEYS if name in annotation.entry})
    return [{"ID": image["file_name"].removesuffix(".jpg"), "gtboxes": boxes[image_id]} for image_id, image in file.images.items()]
