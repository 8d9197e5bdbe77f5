"""Annotations that are valid one by one, but probably not meant: copies, rotated shapes, boxes beside their masks."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from cis_seg.coco import rle
from cis_seg.coco.boxes import box_iou, corners, inside
from cis_seg.coco.checks import has_outline, is_polygon, is_score, is_segmentation
from cis_seg.coco.entries import Annotation

BOX_IOU = 0.5  # below, a box does not match its mask's tight box even by COCO's loosest criterion
_TIGHT = 0.9  # IoU of a box that was drawn around its mask, with the rounding of coordinates
_FEW, _MANY_OFF = 4, 0.1  # masks, and share of them below ``BOX_IOU``; because 2.5 % of CIS.json's are, and none elsewhere
_SAMPLED = 20_000  # because a share of more masks is no more certain, and a start should be fast

#: kind -> what it means for training, and what to do
KINDS = {
    "box_twice": "repeat the box and class of another one in their image, and each counts as an instance; delete the copies",
    "rotated_box": "are rotated (attributes.rotation, as CVAT writes it), but 'bbox' is the box before the rotation; write the upright box "
    "around the rotated shape, or export polygons",
    "file_twice": "are listed again under another id, so that the instances of one entry are background in the other; merge the entries",
}


class Suspect(NamedTuple):
    """One finding."""

    kind: str  # of KINDS
    image_id: int
    annotation_ids: tuple[int, ...]  # none if the image itself is meant
    detail: str

    def __str__(self) -> str:
        ids = "/".join(map(str, self.annotation_ids))
        return f"{f'annotation {ids} of ' if ids else ''}image {self.image_id}: {self.detail}"


def find_suspects(images: dict[int, dict[str, Any]], annotations: Sequence[Annotation]) -> Iterator[Suspect]:
    """The suspicious ones of checked images and annotations."""
    people = [annotation for annotation in annotations if not annotation.crowd and corners(annotation.box)]
    for first, copy in repeated((a.image_id, a.category_id, *a.box) for a in people):
        yield Suspect("box_twice", people[copy].image_id, (people[first].id, people[copy].id), f"the box {people[copy].box}")
    for annotation in people:
        if (angle := _rotation(annotation.entry)) % 180 and not _fits_mask(annotation, images[annotation.image_id]):
            yield Suspect("rotated_box", annotation.image_id, (annotation.id,), f"rotated by {angle:g} degrees")
    named = [(number, name) for number, image in images.items() if isinstance(name := image.get("file_name"), str)]
    for first, copy in repeated(unicodedata.normalize("NFC", posixpath.normpath(name)) for _, name in named):
        yield Suspect("file_twice", named[copy][0], (), f"{named[copy][1]!r} is image {named[first][0]} too")


def summaries(suspects: Sequence[Suspect]) -> Iterator[str]:
    """A line on each kind of suspect."""
    for kind, meaning in KINDS.items():
        if found := [suspect for suspect in suspects if suspect.kind == kind]:
            yield f"{len(found)} {'annotations' if found[0].annotation_ids else 'images'} {meaning} ({found[0]})"


def repeated(keys: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """The place of each key that was there before, after the place of its first one."""
    seen: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        if (first := seen.setdefault(key, place)) != place:
            yield first, place


def boxes_beside_masks(annotations: Sequence[Annotation], sizes: Sequence[tuple[int, int]]) -> str | None:
    """A remark if boxes inside their image lie beside their own masks, or many match them badly; otherwise None.

    Args:
        annotations: of instances; their masks need no check before.
        sizes: (height, width) of the image of each.
    """
    step, masks = len(annotations) // _SAMPLED + 1, list[tuple[Annotation, list[float]]]()
    for annotation, size in zip(annotations[::step], sizes[::step], strict=True):
        if (whole := corners(annotation.box)) and inside(whole, size) and (box := _mask_box(annotation, size)):
            masks.append((annotation, box))
    ious = [float(box_iou([annotation.box], [box])[0, 0]) for annotation, box in masks]
    beside, off = ious.count(0), sum(iou < BOX_IOU for iou in ious)
    if not beside and (off < _FEW or off < _MANY_OFF * len(ious)):
        return None
    annotation, box = masks[ious.index(min(ious))]
    return (
        f"{off} of {len(ious)} boxes do not match their own masks, {beside} do not even touch them; annotation {annotation.id} of image "
        f"{annotation.image_id} has the box {annotation.box} and a mask in {[round(side, 1) for side in box]}; training from boxes uses "
        "the boxes, so correct those that are wrong (cis-seg check lists them)"
    )


def _mask_box(annotation: Annotation, size: tuple[int, int]) -> list[float] | None:
    """The box [x, y, width, height] around a mask; None if there is no mask, or one that is malformed."""
    mask = annotation.entry.get("segmentation")
    if isinstance(mask, list):  # faster than drawing it
        points = [[part[axis::2] for part in mask if is_polygon(part)] for axis in (0, 1)]
        low = [min(map(min, values), default=0.0) for values in points]
        box = [*low, *(max(map(max, values), default=0.0) - start for values, start in zip(points, low, strict=True))]
    else:
        code = rle.from_segmentation(mask, size) if is_segmentation(mask, size) and has_outline(mask) else None
        box = [0.0] * 4 if code is None else rle.tight_box(code)
    return box if box[2] > 0 and box[3] > 0 else None


def _rotation(entry: dict[str, Any]) -> float:
    """CVAT's angle in degrees; 0 without one."""
    attributes = entry.get("attributes")
    angle = attributes.get("rotation") if isinstance(attributes, dict) else None
    return angle if is_score(angle) else 0


def _fits_mask(annotation: Annotation, image: dict[str, Any]) -> bool:
    box = _mask_box(annotation, (image["height"], image["width"]))
    return box is not None and float(box_iou([annotation.box], [box])[0, 0]) > _TIGHT
