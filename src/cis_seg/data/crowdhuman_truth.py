"""The ground truth of a scored set of CrowdHuman: an ``.odgt`` file, or a COCO json with or without its entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cis_seg.coco.boxes import corners, inside
from cis_seg.coco.ground_truth import CrowdImage, CrowdTruth, GroundTruth, scored_needs
from cis_seg.coco.reader import CocoFile, check_coco, read_coco, warn_once
from cis_seg.data.crowdhuman import find_images
from cis_seg.data.crowdhuman_coco import PERSON, record_annotations
from cis_seg.data.faults import Faults
from cis_seg.data.odgt import BOX_KEYS, OdgtRecord, checked_entries, read_records
from cis_seg.errors import DataError

ODGT = ".odgt"
_SHOWN = 3  # faulty records in a message


def crowdhuman_truth(path: Path, categories: Sequence[str] | None, *, images: Path, boxes: str, exif: str = "ignore") -> GroundTruth:
    """Read the ground truth of one kind of box; no pixel is read.

    Args:
        path: an ``.odgt`` file, whose image ids are line numbers from 0, or a COCO json. The people of CrowdHuman's metrics
            (``GroundTruth.crowd``) come from the odgt entries. A json keeps them if ``cis-seg crowdhuman`` wrote it; without them (such
            as CIS.json, or the masks of the generated crowd) these metrics do not exist.
        categories: see ``GroundTruth``.
        images: folder of the images, whose headers tell the sizes that the records do not state.
        boxes: ``visible``, ``full`` or ``head``.
        exif: ``apply`` or ``ignore`` the EXIF orientation in the sizes.

    Raises:
        DataError: a missing or corrupt file, an unusable record, an image without a known size, or a json of another kind of box.
    """
    if path.suffix == ODGT:
        return _odgt_truth(path, categories, images, boxes, exif)
    file = read_coco(path, scored_needs(categories))
    if not any("tag" in annotation.entry for annotation in file.annotations):
        return GroundTruth(path, file=file)
    _check_kind(file, boxes)
    return GroundTruth(path, file=file, crowd=_crowd(path, boxes, ((r, file.image_size(r.image_id)) for r in _records_of(file))))


def _odgt_truth(path: Path, categories: Sequence[str] | None, images: Path, boxes: str, exif: str) -> GroundTruth:
    faults = Faults(path, 0)
    records = list(read_records(path, faults, images))
    if faults.listed:
        raise DataError(
            f"{len(faults.listed)} of {len(records) + len(faults.listed)} records to score cannot be used",
            where=path,
            expected="records without a fault: leaving some out would change the score",
            found="\n    ".join(fault.problem.replace("\n", "\n    ") for fault in faults.listed[:_SHOWN]),
            remedy="correct these lines or delete them",
        )
    known = _images(records, images, path, exif)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": PERSON, "name": "person"}]}
    for record in records:
        file_name, (height, width) = known[record.file_name]
        content["images"].append({"id": record.image_id, "file_name": file_name, "height": height, "width": width})
        found, _ = record_annotations(record, BOX_KEYS[boxes], (height, width))
        content["annotations"] += [{"id": len(content["annotations"]) + i, **entry} for i, entry in enumerate(found, start=1)]
    crowd = _crowd(path, boxes, ((record, known[record.file_name][1]) for record in records))
    return GroundTruth(path, file=check_coco(content, path, scored_needs(categories)), crowd=crowd)


def _images(records: Sequence[OdgtRecord], images: Path, path: Path, exif: str) -> dict[str, tuple[str, tuple[int, int]]]:
    """File and (height, width) of the image of each record, by its file name: as stated, or from the header of the image."""
    known = {record.file_name: (record.file_name, record.size) for record in records if record.size is not None}
    others = [record.file_name for record in records if record.size is None]
    if others and images.is_dir():
        known |= find_images(images, others, path, exif)
    if unknown := [record for record in records if record.file_name not in known]:
        raise DataError(
            f"the size of {len(unknown)} of {len(records)} images is unknown, and boxes are clipped to their image",
            where=unknown[0].where,
            expected=f"{images / unknown[0].file_name}, or 'width' and 'height' in the record",
            found="an image folder without it" if images.is_dir() else f"no folder {images}, and a record without them",
            remedy="set data.root and data.images to the folder of the images",
        )
    return known


def _records_of(file: CocoFile) -> list[OdgtRecord]:
    """The images of a json that ``cis-seg crowdhuman`` wrote, as records."""
    entries: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in file.images}
    for annotation in file.annotations:
        entries[annotation.image_id].append(annotation.entry)
    names = {image_id: str(image.get("file_name")) for image_id, image in file.images.items()}
    return [OdgtRecord(number, file.path, f"{file.path}, image {number}", names[number], entries[number]) for number in entries]


def _crowd(path: Path, boxes: str, records: Iterable[tuple[OdgtRecord, tuple[int, int]]]) -> CrowdTruth:
    """The people and ignore regions of records with the sizes of their images."""
    truth = CrowdTruth(boxes, {})
    for record, size in records:
        image = truth.images[record.image_id] = CrowdImage(size)
        for entry, _, person in checked_entries(record, BOX_KEYS[boxes]):
            x, y, width, height = entry[BOX_KEYS[boxes]]
            (image.people if person else image.ignored).append((x, y, x + width, y + height))
    if not any(image.ignored for image in truth.images.values()):
        warn_once(
            f"{path}: no entry is an ignore region (a tag other than 'person', or extra.ignore 1), so detections of crowds, statues and "
            "reflections count as wrong; CrowdHuman's own files have such entries"
        )
    return truth


def _check_kind(file: CocoFile, boxes: str) -> None:
    """Refuse a json whose ``bbox`` is another kind of box than ``boxes``.

    Raises:
        DataError: names the first annotation whose ``bbox`` is one of its other boxes.
    """
    for annotation in file.annotations:
        whole = {kind: corners(annotation.entry[key]) for kind, key in BOX_KEYS.items() if key in annotation.entry}
        size = file.image_size(annotation.image_id)
        parts = {kind: inside(box, size) for kind, box in whole.items() if box is not None}
        equal = [kind for kind, part in parts.items() if part is not None and part == corners(annotation.box)]
        if equal and boxes not in equal:
            raise DataError(
                f"the file has the {equal[0]} boxes of people, not the {boxes} ones",
                where=f"{file.path}, annotation {annotation.id}",
                expected=f"bbox {list(parts.get(boxes) or ())} as [x0, y0, x1, y1], which is its {BOX_KEYS[boxes]}",
                found=f"bbox {list(parts[equal[0]] or ())}, which is its {BOX_KEYS[equal[0]]}",
                remedy=f"set data.boxes={equal[0]}, or write the file again: cis-seg crowdhuman --boxes {boxes}",
            )
