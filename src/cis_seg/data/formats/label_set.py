"""The labels of a folder, collected as COCO json: what the readers of all formats share.

Legend: boxes are xyxy in pixels of the photo until they are written as COCO's [x, y, width, height].
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco, warn_once
from cis_seg.coco.suspicious import summaries
from cis_seg.data.image_files import Header, Size, read_headers
from cis_seg.errors import DataError

Json = dict[str, Any]

_SHOWN = 5  # faults in a message
_EXAMPLES = 3  # files behind a count
_DIGITS = 3  # of coordinates, a thousandth of a pixel

UNREADABLE = "images that cannot be read, left out with their labels"
BACKGROUND = "images without a label, kept as background"
UNLABELLED = "images without a label file, left out: not labelled yet?"
NO_IMAGE = "labels without an image, left out"
OUTSIDE = "boxes that reach outside their image, kept"


class Shape(NamedTuple):
    """One instance of a label file."""

    name: str  # of its class
    box: Box
    mask: Any = None  # COCO's segmentation: polygons in pixels, or a run-length code; None for a box alone
    ignored: bool = False  # an ignore region


@dataclass(frozen=True)
class LabelSet:
    """The labels of a folder as COCO json."""

    source: Path
    kind: str  # YOLO, VOC or labelme
    images: Path  # the folder that file names are relative to
    content: Json
    remarks: list[str]  # what was left out, assumed or counted, one line each

    def checked(self, needs: Needs | None = None) -> CocoFile:
        """The content after the checks of any COCO json, with its warnings logged.

        Args:
            needs: the checks that apply, by default those for writing it in another format.

        Raises:
            DataError: an entry that no COCO json may have, such as a file name with an unusable character.
        """
        file = check_coco(self.content, self.source, needs or Needs(boxes=False, masks="optional", folder=self.images))
        for note in (*file.notes, *summaries(file.suspects)):
            warn_once(f"{self.source}: {note}")
        return file

    def summary(self) -> str:
        """What was read, then the remarks, a line each."""
        annotations, images = self.content["annotations"], self.content["images"]
        regions, outlined = sum(entry["iscrowd"] for entry in annotations), sum("segmentation" in entry for entry in annotations)
        counted = f"{len(images)} images, {len(annotations) - regions} instances ({outlined} with an outline), {regions} ignore regions"
        names = [category["name"] for category in self.content["categories"]]
        classes = f"classes: {', '.join(names[:10])}{f' and {len(names) - 10} more' if len(names) > 10 else ''}"
        splits = dict.fromkeys(image["split"] for image in images if "split" in image)
        numbers = {split: {image["id"] for image in images if image.get("split") == split} for split in splits}
        parts = [
            f"{split}: {len(ids)} images, {sum(entry['image_id'] in ids for entry in annotations)} annotations"
            for split, ids in numbers.items()
        ]
        return "\n  ".join([f"{self.source} ({self.kind}): {counted}", classes, *parts, *self.remarks])


@dataclass
class Collector:
    """Collects photos and shapes; faults are listed, so that one message names them all.

    Args:
        source: the folder or file that is read, for messages.
        kind: its format.
        exif: ``apply`` or ``ignore``: whether the labels were drawn on the photos as viewers turn them.
    """

    source: Path
    kind: str
    exif: str
    faults: list[str] = field(default_factory=list)
    _counted: dict[str, list[str]] = field(default_factory=dict)  # what -> where
    _images: list[tuple[Path, Size, str | None, Sequence[Shape]]] = field(default_factory=list)

    def count(self, what: str, where: str) -> None:
        """Count something for the remarks."""
        self._counted.setdefault(what, []).append(where)

    def headers(self, photos: Iterable[Path]) -> dict[Path, Header]:
        """The headers of the photos that can be read; the others are counted."""
        listed = list(dict.fromkeys(photos))
        found = dict(zip(listed, read_headers(listed, "image sizes", delay=2), strict=True))
        for photo, header in found.items():
            if header is None:
                self.count(UNREADABLE, photo.name)
            elif header.orientation != 1:
                drawn = "the turned" if self.exif == "apply" else "the stored"
                self.count(
                    f"photos that EXIF turns, read as labelled on {drawn} pixels: set exif={self.exif} (data.exif={self.exif} in a run)",
                    photo.name,
                )
        return {photo: header for photo, header in found.items() if header is not None}

    def add(self, photo: Path, size: Size, shapes: Sequence[Shape], split: str | None = None) -> None:
        """Add a photo of (height, width) with its shapes."""
        for shape in shapes:
            x0, y0, x1, y1 = shape.box
            if min(x0, y0) < -1 or x1 > size[1] + 1 or y1 > size[0] + 1:
                self.count(OUTSIDE, photo.name)
        self._images.append((photo, size, split, shapes))

    def finish(self, names: Iterable[str] | None = None) -> LabelSet:
        """The whole set.

        Args:
            names: the classes in label order; by default those found, by name.

        Raises:
            DataError: there are faults, no images, or no labels.
        """
        if self.faults:
            more = [f"and {len(self.faults) - _SHOWN} more"] if len(self.faults) > _SHOWN else []
            raise DataError(
                f"{len(self.faults)} labels cannot be used",
                where=self.source,
                found="\n    ".join([*self.faults[:_SHOWN], *more]),
                remedy="correct these labels, or delete them",
            )
        if not any(shapes for *_, shapes in self._images):
            found = "\n    ".join([f"{len(self._images)} images", *self._remarks()])
            raise DataError("no label belongs to an image", where=self.source, expected=f"images and their {self.kind} labels", found=found)
        found_names = sorted({shape.name for *_, shapes in self._images for shape in shapes})
        ids = {name: number for number, name in enumerate(found_names if names is None else names, start=1)}
        if len({photo.is_absolute() for photo, *_ in self._images}) > 1:  # a list of images may mix them
            self._images = [(Path(os.path.abspath(photo)), size, split, shapes) for photo, size, split, shapes in self._images]
        folder = Path(os.path.commonpath([photo.parent for photo, *_ in self._images]))
        content = {
            "info": {"description": f"{self.source.name}, {self.kind} labels"},
            "images": [_image(number, image, folder) for number, image in enumerate(self._images, start=1)],
            "annotations": self._annotations(ids),
            "categories": [{"id": number, "name": name} for name, number in ids.items()],
        }
        return LabelSet(self.source, self.kind, folder, content, self._remarks())

    def _annotations(self, ids: dict[str, int]) -> list[Json]:
        entries: list[Json] = []
        for image_id, (_, size, _, shapes) in enumerate(self._images, start=1):
            entries += [{"id": len(entries) + i, "image_id": image_id, **_entry(s, ids, size)} for i, s in enumerate(shapes, start=1)]
        return entries

    def _remarks(self) -> list[str]:
        remarks = []
        for what, places in self._counted.items():
            different = list(dict.fromkeys(places))
            more = ", ..." if len(different) > _EXAMPLES else ""
            remarks.append(f"{len(places)} {what} ({', '.join(different[:_EXAMPLES])}{more})")
        return remarks


def _image(number: int, image: tuple[Path, Size, str | None, Sequence[Shape]], folder: Path) -> Json:
    photo, (height, width), split, _ = image
    entry: Json = {"id": number, "file_name": photo.relative_to(folder).as_posix(), "height": height, "width": width}
    return entry if split is None else entry | {"split": split}


def _entry(shape: Shape, ids: dict[str, int], size: Size) -> Json:
    x0, y0, x1, y1 = shape.box
    box = [round(value, _DIGITS) for value in (x0, y0, x1 - x0, y1 - y0)]
    entry: Json = {"category_id": ids[shape.name], "bbox": box, "area": box[2] * box[3], "iscrowd": int(shape.ignored)}
    if shape.mask is None:
        return entry
    mask = shape.mask
    if isinstance(mask, list):
        mask = [[round(value, _DIGITS) for value in part] for part in mask]
    code = rle.from_segmentation(mask, size)
    return entry | {"segmentation": mask if isinstance(mask, list) else rle.to_json(mask), "area": 0 if code is None else rle.area(code)}


def polygon_box(parts: Sequence[Sequence[float]]) -> Box:
    """The smallest xyxy box around polygons [x, y, x, y, ...]."""
    xs, ys = [value for part in parts for value in part[0::2]], [value for part in parts for value in part[1::2]]
    return min(xs), min(ys), max(xs), max(ys)
