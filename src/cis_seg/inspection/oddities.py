"""Oddities of single annotations and image files.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box, box_iou, inside
from cis_seg.coco.checks import check_file_name
from cis_seg.coco.results import by_image
from cis_seg.coco.suspicious import BOX_IOU
from cis_seg.data.image_files import missing_text
from cis_seg.data.images import read_image
from cis_seg.data.orientation import BoxedPhoto, turned_photos
from cis_seg.errors import DataError
from cis_seg.inspection.contents import Contents

DUPLICATE_IOU = 0.8  # because the 14 pairs of CIS above it look like one person outlined twice, and none below does (data card)
_LEFT_OUT = {"unusable", "faulty_record", "box_without_area", "box_off_image"}  # kinds that explain a file without an instance


def find_oddities(contents: Contents, *, pixels: bool, exif: str = "ignore") -> None:
    """Add the oddities of the annotations to ``contents.oddities`` and, with ``pixels``, those of the image files (each is decoded)."""
    people = contents.people()
    if not people and _LEFT_OUT.isdisjoint(oddity.kind for oddity in contents.oddities):
        contents.add("whole_file", "no instance is annotated: nothing can be scored, and training needs data.keep_empty=true")
    masked = [annotation for annotation in people if annotation["segmentation"] is not None]
    for annotation in people:
        _leaves_image(annotation, contents)
    if masked:
        _unmasked(people, contents)
    _compare_boxes(masked, contents)
    for first, second, iou in pair_ious(masked):
        if iou > DUPLICATE_IOU:
            contents.add("duplicate", f"mask IoU {iou:.2f}", image_id=first["image_id"], ids=(first["id"], second["id"]))
    if pixels:
        _turned_photos(contents, exif)
        _read_images(contents, exif)


def pair_ious(masked: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any], float]]:
    """Every pair of masks in the same image, and their IoU."""
    pairs = []
    for group in by_image(masked).values():
        codes = [annotation["segmentation"] for annotation in group]
        ious = rle.mask_iou(codes, codes)
        pairs += [(group[i], group[j], float(ious[i, j])) for i in range(len(group)) for j in range(i + 1, len(group))]
    return pairs


def box_distance(annotation: dict[str, Any]) -> float:
    """The largest distance in pixels between an edge of the box and the same edge of its mask's tight box."""
    (x, y, w, h), (mx, my, mw, mh) = annotation["bbox"], rle.tight_box(annotation["segmentation"])
    return float(max(abs(x - mx), abs(y - my), abs(x + w - mx - mw), abs(y + h - my - mh)))


def _leaves_image(annotation: dict[str, Any], contents: Contents) -> None:
    height, width = contents.size(annotation["image_id"])
    x, y, w, h = annotation["bbox"]
    beyond = max(-x, -y, x + w - width, y + h - height)
    where = {"image_id": annotation["image_id"], "ids": (annotation["id"],)}
    if inside((x, y, x + w, y + h), (height, width)) is None:
        contents.add("box_off_image", annotation["bbox"], **where)
    elif beyond > 0:
        contents.add("box_outside", f"{beyond:g} px", **where)
    beyond = outline_beyond(annotation["outline"], (height, width))
    if beyond > 0:
        contents.add("polygon_outside", f"{beyond:g} px", **where)


def outline_beyond(outline: Sequence[Sequence[float]], size: tuple[int, int]) -> float:
    """Distance in pixels of the farthest polygon point outside an image of (height, width); 0 or less if none is outside."""
    height, width = size
    return max((max(-min(part), max(part[0::2]) - width, max(part[1::2]) - height) for part in outline), default=0)


def _unmasked(people: Sequence[dict[str, Any]], contents: Contents) -> None:
    for annotation in people:
        where = {"image_id": annotation["image_id"], "ids": (annotation["id"],)}
        if annotation["segmentation"] is None:
            contents.add("no_mask", "an ignore region when masks are scored", **where)
        elif not rle.area(annotation["segmentation"]):
            contents.add("empty_mask", "0 px", **where)


def _compare_boxes(masked: Sequence[dict[str, Any]], contents: Contents) -> None:
    for annotation in masked:
        tight = rle.tight_box(annotation["segmentation"])
        if not any(tight):
            continue  # listed as empty
        iou = float(box_iou([annotation["bbox"]], [tight])[0, 0])
        if iou < BOX_IOU:
            detail = f"IoU {iou:.2f} with the mask's tight box, {box_distance(annotation):.0f} px off"
            contents.add("box_off_mask", detail, image_id=annotation["image_id"], ids=(annotation["id"],))


def _file_name(contents: Contents, image_id: int) -> str:
    """The file name of an image, which lies inside the image folder.

    Raises:
        DataError: it does not, or is no name.
    """
    name = contents.images[image_id].get("file_name")
    return check_file_name(name, culprit=f"image {image_id}", where=contents.source, folder=contents.folder)


def _turned_photos(contents: Contents, exif: str) -> None:
    """Whether the boxes of photos that EXIF turns lie on them as they are read."""
    names: dict[int, str] = {}
    for image_id in contents.images:
        with suppress(DataError):  # listed by _read_images
            names[image_id] = _file_name(contents, image_id)
    sizes_stated = contents.source.suffix != ".odgt"
    boxes: dict[int, list[Box]] = defaultdict(list)
    for annotation in contents.people():
        x, y, w, h = annotation["bbox"]
        boxes[annotation["image_id"]].append((x, y, x + w, y + h))
    photos = (
        BoxedPhoto(name, contents.size(image_id) if sizes_stated else (0, 0), np.array(boxes[image_id], float).reshape(-1, 4))
        for image_id, name in names.items()
    )
    turned = turned_photos(contents.folder, photos)
    for remark in turned.remarks():
        contents.add("whole_file", remark)
    if (problem := turned.problem(exif)) is not None:
        contents.add("whole_file", "; ".join(problem))


def _read_images(contents: Contents, exif: str) -> None:
    for image_id in contents.images:
        try:
            path = contents.folder / _file_name(contents, image_id)
        except DataError as error:
            contents.add("bad_file_name", error.found, image_id=image_id)
            continue
        try:
            if not path.is_file():
                contents.add("missing_image", missing_text(contents.folder, _file_name(contents, image_id)), image_id=image_id)
                continue
            pixels = read_image(path, exif=exif)
        except (DataError, OSError, ValueError) as error:
            detail = error.one_line if isinstance(error, DataError) else " ".join(str(error).split())
            contents.add("unreadable_image", detail, image_id=image_id)
            continue
        if pixels.shape[:2] != contents.size(image_id):
            stated = " x ".join(str(side) for side in contents.size(image_id)[::-1])
            contents.add("other_size", f"{path}: {pixels.shape[1]} x {pixels.shape[0]}, stated {stated}", image_id=image_id)
