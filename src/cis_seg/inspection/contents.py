"""A data set as the data check sees it: every annotation that can be read, and everything odd about the others.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.boxes import corners
from cis_seg.coco.checks import degenerate_parts, is_degenerate, is_id
from cis_seg.coco.entries import Annotation, Needs
from cis_seg.coco.reader import CocoFile, check_coco, read_coco
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.data.faults import NO_AREA, OUTSIDE
from cis_seg.data.odgt import BOX_KEYS

#: kind of oddity -> its heading in the report
KINDS = {
    "whole_file": "remarks on the whole file",
    "unusable": "entries that cannot be used",
    "faulty_record": "records left out",
    "box_without_area": f"{NO_AREA}: left out of training",
    "box_off_image": f"{OUTSIDE}: left out of training",
    "box_twice": "annotations that repeat the box and class of another one in their image",
    "rotated_box": "boxes of shapes that are rotated",
    "file_twice": "images that are listed again under another id",
    "duplicate": "pairs of masks that nearly coincide: one person outlined twice?",
    "box_off_mask": "boxes that disagree with their mask",
    "box_outside": "boxes that leave their image",
    "polygon_outside": "polygons that leave their image",
    "degenerate_part": "annotations with polygon parts of one or two points",
    "no_mask": "annotations without a mask of their own",
    "empty_mask": "masks without a pixel",
    "id_zero": "annotation id 0, which COCO's evaluation reads as 'no match'",
    "bad_file_name": "file names outside the image folder",
    "missing_image": "images that are missing",
    "unreadable_image": "files that cannot be read as an image",
    "other_size": "images of a different size than stated",
}

_NEEDS = Needs(file_names=False, masks="optional", areas=True)  # file names are oddities of their own


@dataclass(frozen=True)
class Oddity:
    """One finding."""

    kind: str  # of KINDS
    image_id: int | None
    annotation_ids: tuple[int, ...]
    detail: str


@dataclass
class Contents:
    """What one annotation file holds."""

    source: Path
    folder: Path  # of the images
    keys: list[str]  # top-level keys of the json
    images: dict[int, dict[str, Any]]
    categories: dict[int, str]
    annotations: list[dict[str, Any]] = field(
        default_factory=list
    )  # id, image_id, category_id, bbox, iscrowd, area, score, segmentation, outline
    oddities: list[Oddity] = field(default_factory=list)

    def add(self, kind: str, detail: object, *, image_id: int | None = None, ids: tuple[int, ...] = ()) -> None:
        """Add an oddity."""
        self.oddities.append(Oddity(kind, image_id, ids, str(detail)))

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of an image."""
        image = self.images[image_id]
        return image["height"], image["width"]

    def people(self) -> list[dict[str, Any]]:
        """The annotations that are not ignore regions."""
        return [annotation for annotation in self.annotations if not annotation["iscrowd"]]


def read_contents(source: Path, folder: Path, *, boxes: str = "visible", exif: str = "ignore") -> Contents:
    """Read a COCO json or, by its suffix, a CrowdHuman ``.odgt`` (its ``boxes``). Invalid entries become oddities.

    Raises:
        DataError: the file is missing, or not an annotation file at all.
    """
    if source.suffix != ".odgt":
        return _contents(read_coco(source, _NEEDS, collect=True), folder)
    content, faults = to_coco(source, folder, boxes=boxes, max_faulty=1.0, exif=exif)
    for annotation in content["annotations"]:
        annotation["bbox"] = annotation[BOX_KEYS[boxes]]  # as annotated, not clipped
    contents = _contents(check_coco(content, source, _NEEDS, collect=True), folder)
    for fault in faults.listed:
        contents.add("faulty_record", f"{fault.kind}: {'; '.join(line.strip() for line in fault.problem.splitlines())}")
    for box in faults.boxes:
        contents.add("box_without_area" if box.reason == NO_AREA else "box_off_image", box.entry, image_id=box.image_id)
    return contents


def _contents(file: CocoFile, folder: Path) -> Contents:
    contents = Contents(file.path, folder, sorted({"images", "annotations", *file.others}), file.images, file.categories)
    for note in file.notes:
        contents.add("whole_file", note)
    for error, entry, reference in file.faults:
        ids = (entry["id"],) if {"image_id", "category_id", "bbox"} & entry.keys() and is_id(entry.get("id")) else ()
        also = f"; {file.left_out[reference]} annotations of it are left out too" if reference and file.left_out[reference] else ""
        contents.add("unusable", error.one_line + also, ids=ids)
    for suspect in file.suspects:
        contents.add(suspect.kind, suspect.detail, image_id=suspect.image_id, ids=suspect.annotation_ids)
    for annotation in file.annotations:
        _add(annotation, contents)
    return contents


def _add(annotation: Annotation, contents: Contents) -> None:
    """One annotation with its mask encoded, unless its box has no area."""
    where: dict[str, Any] = {"image_id": annotation.image_id, "ids": (annotation.id,)}
    if corners(annotation.box) is None:
        contents.add("box_without_area", annotation.box, **where)
        return
    if annotation.id == 0:
        contents.add("id_zero", "ids are shifted by one in scoring", **where)
    outline: Any = annotation.entry.get("segmentation")
    if dropped := degenerate_parts(outline):
        contents.add("degenerate_part", f"{dropped} of {len(outline)} parts", **where)
    contents.annotations.append(
        {
            "id": annotation.id,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": annotation.box,
            "iscrowd": int(annotation.crowd),
            "area": annotation.entry.get("area"),
            "score": annotation.entry.get("score"),
            "segmentation": rle.from_segmentation(outline, contents.size(annotation.image_id)),
            "outline": [part for part in outline if not is_degenerate(part)] if isinstance(outline, list) else [],
        }
    )
