"""A COCO json as a YOLO data set: labels, ``data.yaml`` and links to the photos."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box, corners, inside
from cis_seg.coco.checks import has_outline, is_polygon
from cis_seg.coco.entries import Annotation
from cis_seg.coco.reader import CocoFile
from cis_seg.data.formats.data_yaml import SPLITS
from cis_seg.data.formats.label_set import polygon_box
from cis_seg.data.formats.yolo import label_path
from cis_seg.data.image_files import Size
from cis_seg.errors import DataError

Ring = Sequence[float]
Json = dict[str, Any]
REGIONS = "ignore regions left out: YOLO has none, so that people in them train as background"
SEVERAL = "instances of several parts or with holes written as one polygon, joined by lines of no width"
NO_MASK = "instances without a mask written as the rectangle of their box"
NOTHING = "instances left out: neither mask nor box has an area inside the image"
SCORES = "scores or confidences left out"
BOXES = "boxes left out: YOLO takes the extents of the polygon instead"


def joined(rings: Sequence[Ring]) -> list[float]:
    """One polygon [x, y, x, y, ...] that fills the same pixels as ``rings`` by the even-odd rule.

    Each ring is joined to those before it, the longest first, by a line between their nearest points that is walked there and back. A line
    has no area; programs that paint outlines, such as OpenCV's ``fillPoly``, paint it one pixel wide.

    Args:
        rings: [x, y, x, y, ...] of pieces and holes, one or more.
    """
    longest, *others = sorted((np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings), key=len, reverse=True)
    whole: NDArray[np.float64] = longest
    for ring in others:
        distances = ((whole[:, None] - ring[None]) ** 2).sum(axis=2)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        whole = np.concatenate([whole[: here + 1], ring[there:], ring[: there + 1], whole[here:]])
    return [float(value) for value in whole.ravel()]


def write_yolo(file: CocoFile, output: Path, images: Path | None = None) -> list[str]:
    """Write a YOLO data set: polygons (YOLO-seg) if any instance has a mask, otherwise boxes.

    A photo is at ``images/NAME``, or at its own name if that has a folder ``images``; its label where YOLO looks for it. An image without
    instances gets an empty label. Polygons of one part are written as they are; masks are outlined without changing a pixel.

    Args:
        file: the images, categories and annotations; read with ``Needs(boxes=False, masks="optional")``.
        output: a new folder.
        images: the folder of the photos, which are linked (copied where links are not allowed); None links none.

    Returns:
        What was written, and what YOLO cannot hold, a line each.

    Raises:
        DataError: two images have the same label file, or a photo is missing.
    """
    places = {image_id: _place(entry["file_name"]) for image_id, entry in file.images.items()}
    labels = {image_id: label_path(place) for image_id, place in places.items()}
    _check_different(labels, file)
    masks = any(has_outline(annotation.entry.get("segmentation")) for annotation in file.annotations)
    by_image = file.by_image()
    lost: Counter[str] = Counter()
    index, written = {number: place for place, number in enumerate(file.categories)}, 0
    for image_id, label in labels.items():
        rows = list(_rows(by_image[image_id], file.image_size(image_id), index, masks, lost))
        written += len(rows)
        (output / label).parent.mkdir(parents=True, exist_ok=True)
        (output / label).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        if images is not None:
            _link(images / file.images[image_id]["file_name"], output / places[image_id])
    splits = _splits(places, file)
    content = {**splits, "nc": len(file.categories), "names": list(file.categories.values())}
    (output / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    done = [f"{output / 'data.yaml'}: {len(labels)} images, {written} {'polygons' if masks else 'boxes'}"]
    if splits["train"] == splits["val"]:
        done.append("data.yaml names the same images as train and val: split them before you train with it")
    if images is None:
        done.append(f"no photos were linked: put them in {output / next(iter(places.values())).parent}, or name their folder")
    return done + [f"{count} {what}" for what, count in lost.items()]


def _rows(annotations: Sequence[Annotation], size: Size, index: dict[int, int], masks: bool, lost: Counter[str]) -> Iterator[str]:
    for annotation in annotations:
        if annotation.crowd:
            lost[REGIONS] += 1
            continue
        lost[SCORES] += "score" in annotation.entry or "confidence" in annotation.entry
        numbers = _polygon(annotation, size, lost) if masks else _box(annotation, size)
        if not numbers:
            lost[NOTHING] += 1
            continue
        scaled = (value / size[1 - place % 2] for place, value in enumerate(numbers))
        yield " ".join([str(index[annotation.category_id]), *(f"{value:.6f}" for value in scaled)])
    for key in [key for key, count in lost.items() if not count]:
        del lost[key]


def _polygon(annotation: Annotation, size: Size, lost: Counter[str]) -> list[float]:
    """The polygon of an instance inside the image; empty if it has none."""
    mask = annotation.entry.get("segmentation")
    code = rle.from_segmentation(mask, size) if has_outline(mask) else None
    if code is None or not rle.area(code):
        box = _inside(annotation, size)
        lost[NO_MASK] += box is not None
        return [] if box is None else [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
    parts = [part for part in mask if is_polygon(part)] if isinstance(mask, list) else []
    if len(parts) != 1:  # parts of a polygon may overlap, which the even-odd rule would cut out
        parts = [list(map(float, ring)) for ring in rle.rings(code)]
    lost[SEVERAL] += len(parts) > 1
    polygon = [min(max(value, 0), size[1 - place % 2]) for place, value in enumerate(joined(parts))]
    lost[BOXES] += _differs(annotation, polygon_box([polygon]))
    return polygon


def _differs(annotation: Annotation, extents: Box) -> bool:
    """Whether the box is another one than the extents of the polygon, by more than the rounding of its sides."""
    x, y, width, height = annotation.box
    return any(abs(one - other) > 1 for one, other in zip((x, y, x + width, y + height), extents, strict=True))


def _box(annotation: Annotation, size: Size) -> list[float]:
    """Centre and size of the box inside the image; empty if it has no area there."""
    box = _inside(annotation, size)
    return [] if box is None else [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def _inside(annotation: Annotation, size: Size) -> Box | None:
    box = corners(annotation.box)
    return None if box is None else inside(box, size)


def _place(name: str) -> Path:
    """Where the photo of a name is in the data set."""
    path = PurePosixPath(name.replace("\\", "/"))
    return Path(path) if "images" in path.parts[:-1] else Path("images", path)


def _check_different(labels: dict[int, Path], file: CocoFile) -> None:
    seen: dict[Path, int] = {}
    for image_id, label in labels.items():
        if (other := seen.setdefault(label, image_id)) != image_id:
            names = " and ".join(str(file.images[number]["file_name"]) for number in (other, image_id))
            remedy = "rename one of the photos in the json and in its folder"
            raise DataError(f"two images have one label file, {label}", where=file.path, found=names, remedy=remedy)


def _splits(places: dict[int, Path], file: CocoFile) -> dict[str, Any]:
    """The folders of each split; ``val`` is ``train`` if there is no other."""
    folders: dict[str, set[str]] = defaultdict(set)
    for image_id, place in places.items():
        split = file.images[image_id].get("split")
        folders[split if split in SPLITS else "train"].add(place.parent.as_posix())
    if len(folders) == 1:
        (only,) = folders.values()
        return dict.fromkeys(("train", "val"), os.path.commonpath(only))
    lists = {split: sorted(found) for split, found in sorted(folders.items(), key=lambda item: SPLITS.index(item[0]))}
    first = next(iter(lists.values()))
    whole = {"train": first, "val": first} | lists
    return {split: found[0] if len(found) == 1 else found for split, found in whole.items()}


def _link(photo: Path, target: Path) -> None:
    if not photo.is_file():
        raise DataError(
            "a photo is missing", where=photo, expected="the photos that the json names", remedy="check the folder of the images"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(photo.resolve(), target)
    except OSError:  # Windows without the right to link
        shutil.copy2(photo, target)
