"""A data set as it is checked: every annotation that can be read, and everything that is odd, instead of the first mistake.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cis_seg.coco.ground_truth import encode_mask
from cis_seg.coco.json_values import is_area, is_degenerate, is_id, is_side
from cis_seg.data.checks import NO_AREA, OUTSIDE, parse_box
from cis_seg.data.coco import read_json
from cis_seg.data.crowdhuman import BoxKind, box_key
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.errors import DataError

#: kind of oddity -> what it says about those listed under it
KINDS = {
    "unusable": "entries that cannot be used",
    "faulty_record": "records left out",
    "box_without_area": f"{NO_AREA}: left out of training",
    "box_off_image": f"{OUTSIDE}: left out of training",
    "duplicate": "pairs of masks that nearly coincide: one person outlined twice?",
    "box_off_mask": "boxes that disagree with their mask",
    "box_outside": "boxes that leave their image",
    "polygon_outside": "polygons that leave their image",
    "degenerate_part": "annotations with polygon parts of one or two points",
    "no_mask": "annotations without a mask of their own",
    "empty_mask": "masks without a pixel",
    "id_zero": "annotation id 0, which COCO's evaluation reads as 'no match'",
    "missing_image": "images that are missing",
    "unreadable_image": "files that cannot be read as an image",
    "other_size": "images of another size than stated",
}


@dataclass(frozen=True)
class Oddity:
    """One thing to look at."""

    kind: str  # of KINDS
    image_id: int | None
    annotation_ids: tuple[int, ...]
    detail: str


@dataclass
class Contents:
    """What one annotation file holds."""

    source: Path
    folder: Path  # of the images
    keys: list[str]  # of the json's top level
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)  # id, image_id, category_id, bbox, iscrowd, area, segmentation, outline
    oddities: list[Oddity] = field(default_factory=list)

    def add(self, kind: str, detail: object, *, image_id: int | None = None, ids: tuple[int, ...] = ()) -> None:
        """One more oddity."""
        self.oddities.append(Oddity(kind, image_id, ids, str(detail)))

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of an image."""
        image = self.images[image_id]
        return image["height"], image["width"]

    def people(self) -> list[dict[str, Any]]:
        """The annotations that are no crowd regions."""
        return [annotation for annotation in self.annotations if not annotation["iscrowd"]]


def read_contents(source: Path, folder: Path, *, boxes: BoxKind = "visible") -> Contents:
    """Everything in a COCO json or, by its suffix, in a CrowdHuman ``.odgt`` (whose ``boxes`` are taken).

    Raises:
        DataError: the file is missing, or no such file at all.
    """
    if source.suffix != ".odgt":
        return _checked(read_json(source), source, folder)
    content, faults = to_coco(source, folder, boxes=boxes, max_faulty=1.0)
    for annotation in content["annotations"]:
        annotation["bbox"] = annotation[box_key(boxes)]  # as annotated, not cut to the image
    contents = _checked(content, source, folder)
    for fault in faults.listed:
        contents.add("faulty_record", f"{fault.kind}: {' '.join(fault.problem.split())}")
    for box in faults.boxes:
        contents.add("box_without_area" if box.reason == NO_AREA else "box_off_image", box.entry, image_id=box.image_id)
    return contents


def _checked(content: dict[str, Any], source: Path, folder: Path) -> Contents:
    contents = Contents(source, folder, sorted(content))
    for category in content["categories"]:
        if is_id(category.get("id")) and isinstance(category.get("name"), str):
            contents.categories[category["id"]] = category["name"]
        else:
            contents.add("unusable", f"a category without id or name: {str(category)[:80]}")
    for image in content["images"]:
        image_id = image.get("id")
        if is_id(image_id) and image_id not in contents.images and is_side(image.get("height")) and is_side(image.get("width")):
            contents.images[image_id] = image
        else:
            contents.add("unusable", f"an image without a usable id or size, or listed twice: {str(image)[:80]}")
    seen: Counter[Any] = Counter()
    for annotation in content["annotations"]:
        _add(annotation, contents, seen)
    return contents


def _add(annotation: dict[str, Any], contents: Contents, seen: Counter[Any]) -> None:
    """One annotation, as ``GroundTruth`` prepares it but with its outline, or the oddity that it cannot be used."""
    number, image_id = annotation.get("id"), annotation.get("image_id")
    culprit = f"annotation {str(number)[:40]}"
    try:
        if not is_id(number) or number in seen:
            raise DataError(f"{culprit} has no usable id or is listed twice")
        seen[number] += 1
        if not is_id(image_id) or image_id not in contents.images:
            raise DataError(f"{culprit} belongs to no image that is listed")
        if not is_id(annotation.get("category_id")) or annotation["category_id"] not in contents.categories:
            raise DataError(f"{culprit} belongs to no category that is listed")
        if annotation.get("iscrowd") not in (None, 0, 1):
            raise DataError(f"{culprit} is neither a crowd region nor none: iscrowd {str(annotation['iscrowd'])[:40]}")
        if annotation.get("area") is not None and not is_area(annotation["area"]):
            raise DataError(f"{culprit} has no usable area: {str(annotation['area'])[:40]}")
        if parse_box(annotation.get("bbox"), culprit=culprit, where=contents.source) is None:
            contents.add("box_without_area", annotation["bbox"], image_id=image_id, ids=(number,))
            return
        mask, dropped = _mask(annotation.get("segmentation"), contents.size(image_id), culprit)
    except DataError as error:
        contents.add("unusable", " ".join(str(error).split()), ids=(number,) if is_id(number) else ())
        return
    if number == 0:
        contents.add("id_zero", "ids are shifted by one in scoring", image_id=image_id, ids=(0,))
    if dropped:
        contents.add("degenerate_part", f"{dropped} of {len(annotation['segmentation'])} parts", image_id=image_id, ids=(number,))
    outline = annotation.get("segmentation")
    contents.annotations.append(
        {
            "id": number,
            "image_id": image_id,
            "category_id": annotation["category_id"],
            "bbox": annotation["bbox"],
            "iscrowd": int(annotation.get("iscrowd") or 0),
            "area": annotation.get("area"),
            "segmentation": mask,
            "outline": [part for part in outline if not is_degenerate(part)] if isinstance(outline, list) else [],
        }
    )


def _mask(segmentation: Any, size: tuple[int, int], culprit: str) -> tuple[dict[str, Any] | None, int]:
    try:
        return encode_mask(segmentation, size)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{culprit} has a mask that cannot be read: {error}") from error
