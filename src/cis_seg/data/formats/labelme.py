"""labelme: one JSON file per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cis_seg.coco import rle
from cis_seg.coco.checks import is_coordinate
from cis_seg.data.formats.label_set import BACKGROUND, NO_IMAGE, UNLABELLED, Collector, LabelSet, Shape, polygon_box
from cis_seg.data.formats.photo_index import PhotoIndex
from cis_seg.data.formats.voc import size_fault
from cis_seg.data.image_files import Header, Size
from cis_seg.data.images import CORRUPT

Json = dict[str, Any]
Point = tuple[float, float]

_CIRCLE = 64  # corners of the polygon in place of a circle
#: names that labelme itself gives to pixels that are no instance
_NOT_INSTANCES = ("__ignore__", "_background_")

EMBEDDED = "labels whose photo is only inside the json (imageData), left out: save the photos beside them, with labelme_export_json"
OTHER_JSON = "json files that are not labelme's, left out"


def read_labelme(source: Path, *, images: Path | None = None, exif: str = "apply") -> LabelSet:
    """Read a folder of labelme's JSON files.

    Photos without a file are left out, because labelme writes none until a photo is labelled. Polygons and masks with one ``group_id`` and
    label are the parts of one instance. Points and lines are left out.

    Args:
        source: is searched with the folders in it.
        images: the folder of the photos, by default ``source``.
        exif: see ``Collector``; labelme turns photos.

    Raises:
        DataError: no labels or images, or files and shapes that cannot be read.
    """
    collector, index = Collector(source, "labelme", exif), PhotoIndex(source if images is None else images)
    labels: dict[Path, tuple[Path, Json]] = {}  # by photo
    for label in tqdm(sorted(source.rglob("*.json")), desc="labelme files", unit=" files", disable=None, delay=2):
        content = _content(label, collector)
        if content is None:
            continue
        photo = index.find(content.get("imagePath"), label)
        if photo is None:
            collector.count(EMBEDDED if content.get("imageData") else NO_IMAGE, label.name)
        elif photo in labels:
            collector.faults.append(f"{label}: {photo.name} has another label, {labels[photo][0]}")
        else:
            labels[photo] = label, content
    for photo in index.photos:
        if photo not in labels:
            collector.count(UNLABELLED, photo.name)
    for photo, header in collector.headers(sorted(labels)).items():
        shapes = list(_shapes(*labels[photo], header, collector))
        if not shapes:
            collector.count(BACKGROUND, photo.name)
        collector.add(photo, header.size(exif), shapes)
    return collector.finish()


def is_labelme(path: Path) -> bool:
    """Whether a JSON file is one of labelme's."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def _content(label: Path, collector: Collector) -> Json | None:
    """The JSON without the pixels that it may embed; None if it is not labelme's, or not JSON."""
    try:
        content = json.loads(label.read_bytes())
    except (ValueError, RecursionError) as error:
        collector.faults.append(f"{label}: not valid JSON: {error}")
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        collector.count(OTHER_JSON, label.name)
        return None
    return content | {"imageData": bool(content.get("imageData"))}


def _shapes(label: Path, content: Json, header: Header, collector: Collector) -> Iterator[Shape]:
    """The instances of a label; faults are listed."""
    size, stated = header.size(collector.exif), (content.get("imageHeight"), content.get("imageWidth"))
    if None not in stated and stated != size:
        collector.faults.append(f"{label}: {size_fault((int(stated[0] or 0), int(stated[1] or 0)), header, collector.exif)}")
        return
    groups: dict[tuple[str, Any], list[Shape]] = {}
    for number, entry in enumerate(content["shapes"], start=1):
        try:
            shape = _shape(entry, size)
        except ValueError as error:
            collector.faults.append(f"{label}, shape {number}: {error}")
            continue
        if isinstance(shape, str):
            collector.count(shape, label.name)
            continue
        group = entry.get("group_id")
        alone = group is None or shape.mask is None
        groups.setdefault((shape.name, number if alone else f"group {group}"), []).append(shape)
    yield from (_united(parts, size) for parts in groups.values())


def _shape(entry: Any, size: Size) -> Shape | str:
    """One shape, or why it is left out.

    Raises:
        ValueError: the shape cannot be read; says why.
    """
    if not isinstance(entry, dict) or not isinstance(name := entry.get("label"), str) or not name:
        raise ValueError("no label")
    kind = entry.get("shape_type") or "polygon"  # old versions write none
    if name in _NOT_INSTANCES:
        return f"shapes labelled {name}, left out"
    if kind not in ("polygon", "rectangle", "circle", "mask"):
        return f"shapes of the type {kind}, left out"
    points = _points(entry.get("points"), kind)
    if kind == "mask":
        return _masked(name, points, entry.get("mask"), size)
    if kind == "circle":
        (x, y), radius = points[0], math.dist(points[0], points[1])
        turns = [2 * math.pi * step / _CIRCLE for step in range(_CIRCLE)]
        points = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
    parts = [[value for point in points for value in point]]
    return Shape(name, polygon_box(parts), None if kind == "rectangle" else parts)


def _points(value: Any, kind: str) -> list[Point]:
    least = 3 if kind == "polygon" else 2
    valid = isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 and all(map(is_coordinate, p)) for p in value)
    if not valid or len(value) < least:
        raise ValueError(f"a {kind} needs {least} points [x, y] or more, but has {str(value)[:60]}")
    return [(float(x), float(y)) for x, y in value]


def _masked(name: str, points: list[Point], text: Any, size: Size) -> Shape:
    """A mask that is stored as PNG in base64, from the first point to the last, both pixels included."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            small = np.asarray(image.convert("1"), dtype=np.uint8)
    except (*CORRUPT, TypeError, binascii.Error) as error:
        raise ValueError(f"the mask is not a PNG in base64: {error}") from None
    left, top, whole = int(points[0][0]), int(points[0][1]), np.zeros(size, dtype=np.uint8)
    target = whole[max(top, 0) : top + small.shape[0], max(left, 0) : left + small.shape[1]]
    target[:] = small[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    code = rle.encode(whole)
    x, y, width, height = rle.tight_box(code)
    return Shape(name, (x, y, x + width, y + height), code)


def _united(parts: list[Shape], size: Size) -> Shape:
    """The parts of one instance as one shape."""
    if len(parts) == 1:
        return parts[0]
    corners = [[*part.box] for part in parts]
    if all(isinstance(part.mask, list) for part in parts):
        return Shape(parts[0].name, polygon_box(corners), [polygon for part in parts for polygon in part.mask])
    codes = [code for part in parts if (code := rle.from_segmentation(part.mask, size)) is not None]
    return Shape(parts[0].name, polygon_box(corners), rle.merge(codes))
