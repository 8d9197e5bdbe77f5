"""YOLO labels: one text file per image, one row per instance, ``class x y width height`` or ``class x y x y x y ...``.

Coordinates are fractions of the image. As in files converted from COCO, those of polygons are edges of pixels, not centres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from cis_seg.data.formats.data_yaml import SPLITS, DataYaml, class_names, find_data_yaml, read_data_yaml, split_images
from cis_seg.data.formats.label_set import BACKGROUND, NO_IMAGE, Collector, LabelSet, Shape, polygon_box
from cis_seg.data.image_files import Size
from cis_seg.errors import DataError, listing

_BOX = 4  # numbers of a box
_TRIANGLE = 6  # numbers of the smallest polygon
_BEYOND = 0.5  # of the image, that a value may lie outside; because instances are labelled that leave the image, and pixels are larger
_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "labels/obj.names", "predefined_classes.txt")
_OBB = 8  # numbers of a polygon with four corners

KEYPOINTS = "rows whose keypoints were left out"
EXTRA = "rows whose last column (a score or a track) was left out"


@dataclass
class Rows:
    """Reads the rows of label files.

    Args:
        names: class index -> name.
        keypoints: numbers after the box in a row of a pose data set.
    """

    names: dict[int, str]
    keypoints: int = 0
    polygons: list[int] = field(default_factory=list)  # numbers of each polygon read

    def shape(self, row: str, size: Size) -> tuple[Shape, str | None]:
        """The shape of a row in an image of (height, width), and what was left out of the row.

        Raises:
            ValueError: the row cannot be read; says why.
        """
        words = row.split()
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            raise ValueError("not a row of numbers") from None
        if not numbers[0].is_integer() or int(numbers[0]) not in self.names:
            raise ValueError(f"class {words[0]} is not one of names ({min(self.names)} to {max(self.names)})")
        values, left_out = self._values(numbers[1:])
        bad = next((value for value in values if not -_BEYOND <= value <= 1 + _BEYOND), None)
        if bad is not None:
            raise ValueError(f"the value {bad:g} is no fraction of the image (0 to 1); are these pixels, or keypoints without kpt_shape?")
        name, scale = self.names[int(numbers[0])], (size[1], size[0])
        if len(values) == _BOX:
            x, y, width, height = (value * scale[place % 2] for place, value in enumerate(values))
            if width < 0 or height < 0:
                raise ValueError("the box has a negative width or height")
            return Shape(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)), left_out
        self.polygons.append(len(values))
        parts = [[value * scale[place % 2] for place, value in enumerate(values)]]
        return Shape(name, polygon_box(parts), parts), left_out

    def _values(self, values: list[float]) -> tuple[list[float], str | None]:
        """The numbers of the box or polygon, and what came after them."""
        if not all(map(math.isfinite, values)):
            raise ValueError("a value is not finite")
        if self.keypoints and len(values) == _BOX + self.keypoints:
            return values[:_BOX], KEYPOINTS
        if len(values) == _BOX or (len(values) >= _TRIANGLE and len(values) % 2 == 0):
            return values, None
        if len(values) > _BOX:
            return values[:-1], EXTRA
        raise ValueError(f"{len(values) + 1} columns; a box has 5, a polygon 7 or more")


def read_yolo(source: Path, *, names: Sequence[str] | None = None, split: str | None = None, exif: str = "apply") -> LabelSet:
    """Read a YOLO data set.

    Labels are looked for where YOLO trainers do: in ``labels`` in place of the last ``images`` of a path, or else beside the image.

    Args:
        source: ``data.yaml``, a folder with one, or a folder with images and labels.
        names: class names in label order; by default those of ``data.yaml`` or ``classes.txt``.
        split: ``train``, ``val`` or ``test``; None takes all, and each image has its ``split``.
        exif: see ``Collector``.

    Raises:
        DataError: no class names, no images, a split that does not exist, or rows that cannot be read.
    """
    path = source if source.is_file() else find_data_yaml(source)
    data = _without_yaml(source, names) if path is None else read_data_yaml(path)
    if names is not None:
        data.names = dict(enumerate(names))
    if split is not None and split not in data.splits:
        raise DataError(f"there is no split {split}", where=source, expected=f"one of {', '.join(data.splits)}", found=split)
    collector, rows = Collector(source, "YOLO", exif), Rows(data.names, data.keypoints)
    splits = {name: entries for name, entries in data.splits.items() if split in (None, name)}
    photos: dict[Path, str] = {}
    for name, entries in splits.items():
        for photo in (photo for entry in entries for photo in split_images(entry)):
            photos.setdefault(photo, name)
    headers = collector.headers(photos)
    for photo, header in tqdm(headers.items(), desc="YOLO labels", unit=" files", disable=None, delay=2):
        size = header.size(exif)
        shapes = list(_shapes(photo, size, rows, collector))
        if not shapes:
            collector.count(BACKGROUND, photo.name)
        collector.add(photo, size, shapes, photos[photo] if len(data.splits) > 1 else None)
    for label in _orphans(photos, [entry for entries in splits.values() for entry in entries]):
        collector.count(NO_IMAGE, label.name)
    found = collector.finish(data.names.values())
    if rows.polygons and set(rows.polygons) == {_OBB}:
        data.remarks.append(f"all {len(rows.polygons)} polygons have four corners: if they are rotated boxes (OBB), they are not outlines")
    found.remarks.extend(data.remarks)
    return found


def label_path(photo: Path) -> Path:
    """The label file of a photo by YOLO's rule, whether it exists or not."""
    folders = photo.parts[:-1]
    if "images" not in folders:
        return photo.with_suffix(".txt")
    last = len(folders) - 1 - folders[::-1].index("images")
    return Path(*folders[:last], "labels", *folders[last + 1 :], photo.name).with_suffix(".txt")


def label_text(path: Path) -> str:
    """The text of a file, in UTF-8 or with a byte order mark.

    Raises:
        ValueError: another encoding, or not text.
    """
    content = path.read_bytes()
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def _shapes(photo: Path, size: Size, rows: Rows, collector: Collector) -> Iterator[Shape]:
    label = _label(photo)
    if not label.is_file():
        return
    try:
        lines = label_text(label).splitlines()
    except ValueError:
        collector.faults.append(f"{label}: not a text file in UTF-8")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            shape, left_out = rows.shape(line, size)
        except ValueError as error:
            collector.faults.append(f"{label}, line {number}: {error}: {line.strip()[:60]}")
            continue
        if left_out is not None:
            collector.count(left_out, label.name)
        yield shape


def _label(photo: Path) -> Path:
    """The label file that belongs to a photo: by the rule, or else beside it."""
    by_rule, beside = label_path(photo), photo.with_suffix(".txt")
    return by_rule if by_rule.is_file() or not beside.is_file() else beside


def _orphans(photos: Iterable[Path], entries: Sequence[Path]) -> Iterator[Path]:
    """The label files beside those of ``photos`` that belong to none; not told if a list chooses among the photos of a folder."""
    if not all(entry.is_dir() for entry in entries):
        return
    known = {_label(photo) for photo in photos}
    for folder in sorted({label.parent for label in known}):
        yield from (path for path in sorted(folder.glob("*.txt")) if path not in known and _has_rows(path))


def _has_rows(path: Path) -> bool:
    try:
        words = next((line.split() for line in label_text(path).splitlines() if line.strip()), [])
        return len([float(word) for word in words]) > _BOX
    except ValueError:
        return False


def _without_yaml(folder: Path, names: Sequence[str] | None) -> DataYaml:
    """The description of a folder with images and labels alone."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    listed = next((folder / name for name in _NAME_FILES if (folder / name).is_file()), None)
    if names is None and listed is None:
        raise DataError(
            "the class names are missing",
            where=folder,
            expected="data.yaml, or classes.txt with a name per line",
            found=listing(folder),
            remedy="name the classes in the order of their numbers, for example --classes person,car, or write data.yaml",
        )
    if names is None and listed is not None:
        names = [line.strip() for line in label_text(listed).splitlines() if line.strip()]
    return DataYaml(folder, class_names(list(names or []), folder), splits={SPLITS[0]: [images]})
