"""A COCO json as labelme's files, for correcting masks by hand."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.boxes import corners
from cis_seg.coco.checks import has_outline, is_polygon
from cis_seg.coco.entries import Annotation
from cis_seg.coco.reader import CocoFile
from cis_seg.data.image_files import Size

Json = dict[str, Any]

_VERSION = "5.0.0"  # of labelme, that its newer versions open; the files need nothing of them

REGIONS = "ignore regions left out: labelme has none"
HOLES = "instances with holes, which were filled"
NO_MASK = "instances without a mask written as the rectangle of their box"
NOTHING = "instances left out: neither a mask nor a box with an area"


def write_labelme(file: CocoFile, output: Path, images: Path | None = None) -> list[str]:
    """Write a labelme file per image; images without instances get one without shapes.

    The parts of an instance are polygons with one ``group_id``. Masks are outlined to within a pixel (``rle.TOLERANCE``), so that there are
    few points to move. A score or confidence is written as the ``description`` of its shapes.

    Args:
        file: the images, categories and annotations; read with ``Needs(boxes=False, masks="optional")``.
        output: a new folder.
        images: the folder of the photos; None writes their names alone, which is right if the files are moved beside them.

    Returns:
        What was written, and what labelme cannot hold, a line each.
    """
    by_image = file.by_image()
    lost: Counter[str] = Counter()
    written = 0
    for image_id, entry in file.images.items():
        name = PurePosixPath(entry["file_name"].replace("\\", "/"))
        label = (output / name).with_suffix(".json")
        shapes = list(_shapes(by_image[image_id], file.categories, file.image_size(image_id), lost))
        written += len(shapes)
        photo = name.name if images is None else os.path.relpath(images / name, label.parent)
        label.parent.mkdir(parents=True, exist_ok=True)
        content: Json = {"version": _VERSION, "flags": {}, "shapes": shapes, "imagePath": photo, "imageData": None}
        content |= {"imageHeight": entry["height"], "imageWidth": entry["width"]}
        label.write_text(json.dumps(content, indent=1), encoding="utf-8")
    done = [f"{output}: {len(file.images)} labelme files, {written} shapes"]
    return done + [f"{count} {what}" for what, count in lost.items()]


def _shapes(annotations: Sequence[Annotation], names: dict[int, str], size: Size, lost: Counter[str]) -> Iterator[Json]:
    for number, annotation in enumerate(annotations, start=1):
        if annotation.crowd:
            lost[REGIONS] += 1
            continue
        parts, kind = _parts(annotation, size, lost), "polygon"
        if not parts:
            if (box := corners(annotation.box)) is None:
                lost[NOTHING] += 1
                continue
            lost[NO_MASK] += 1
            parts, kind = [list(box)], "rectangle"
        score = next((f"{key} {annotation.entry[key]:.2f}" for key in ("confidence", "score") if key in annotation.entry), "")
        for part in parts:
            yield {
                "label": names[annotation.category_id],
                "points": [list(point) for point in zip(part[0::2], part[1::2], strict=True)],
                "group_id": number if len(parts) > 1 else None,
                "description": score,
                "shape_type": kind,
                "flags": {},
            }


def _parts(annotation: Annotation, size: Size, lost: Counter[str]) -> Sequence[Sequence[float]]:
    """The polygons of an instance; none without a mask."""
    mask = annotation.entry.get("segmentation")
    if not has_outline(mask):
        return []
    if isinstance(mask, list):
        return [part for part in mask if is_polygon(part)]
    code = rle.from_segmentation(mask, size)
    assert code is not None
    parts = rle.polygons(code)
    if len(rle.rings(code)) > len(parts):
        lost[HOLES] += 1
    return parts
