"""Pascal VOC: one XML file per image, with a box per object and, from some tools, a polygon.

VOC counts pixels from 1, and its boxes include their last pixel: the box (1, 1, 1, 1) is the first pixel, 0 to 1 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from cis_seg.coco.checks import is_coordinate
from cis_seg.data.formats.label_set import BACKGROUND, NO_IMAGE, UNLABELLED, Collector, LabelSet, Shape
from cis_seg.data.formats.photo_index import PhotoIndex
from cis_seg.data.image_files import Header, Size
from cis_seg.errors import DataError, listing

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
DIFFICULT = "difficult objects, read as ignore regions (iscrowd 1): not trained on, and without masks; --keep-difficult reads instances"
FROM_ZERO = "boxes begin at pixel 0, so that none was shifted by VOC's count from 1"

Element = ElementTree.Element


def read_voc(
    source: Path, *, images: Path | None = None, split: str | None = None, exif: str = "apply", difficult: bool = False
) -> LabelSet:
    """Read a folder of VOC's XML files.

    If a box begins at 0, the tool counted from 0, and no coordinate of the set is shifted. ``truncated``, ``pose`` and ``occluded`` are
    not kept, and ``SegmentationObject/`` is not read.

    Args:
        source: is searched with the folders in it.
        images: the folder of the photos, by default ``source``.
        split: reads what ``ImageSets/Main/SPLIT.txt`` lists.
        exif: see ``Collector``.
        difficult: read difficult objects as instances.

    Raises:
        DataError: no labels or images, or files and objects that cannot be read.
    """
    collector, index = Collector(source, "VOC", exif), PhotoIndex(source if images is None else images)
    labels, wanted = sorted(source.rglob("*.xml")), None if split is None else _listed(source, split)
    labels = [label for label in labels if wanted is None or label.stem in wanted]
    roots: dict[Path, tuple[Path, Element]] = {}  # by photo
    for label in tqdm(labels, desc="VOC labels", unit=" files", disable=None, delay=2):
        try:
            root = _root(label)
        except ValueError as error:
            collector.faults.append(f"{label}: {error}")
            continue
        photo = index.find(root.findtext("filename"), label)
        if photo is None:
            collector.count(NO_IMAGE, label.name)
        elif photo in roots:
            collector.faults.append(f"{label}: {photo.name} has another label, {roots[photo][0]}")
        else:
            roots[photo] = label, root
    for photo in index.photos:
        if photo not in roots and (wanted is None or photo.stem in wanted):
            collector.count(UNLABELLED, photo.name)
    headers = collector.headers(sorted(roots))
    shapes = {photo: list(_shapes(*roots[photo], header, collector, difficult)) for photo, header in headers.items()}
    shift = 0 if any(min(shape.box[:2]) < 1 for found in shapes.values() for shape in found) else 1
    for photo, header in headers.items():
        found = [_shifted(shape, shift) for shape in shapes[photo]]
        if not found:
            collector.count(BACKGROUND, photo.name)
        collector.add(photo, header.size(exif), found)
    result = collector.finish()
    if not shift:
        result.remarks.append(FROM_ZERO)
    return result


def _root(label: Path) -> Element:
    """The parsed file.

    Raises:
        ValueError: not XML, not VOC's, or with entities, which can fill the memory.
    """
    content = label.read_bytes()
    if b"<!ENTITY" in content:
        raise ValueError("defines XML entities, which are not read")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"not valid XML: {error}") from None
    if root.tag != "annotation":
        raise ValueError(f"not a VOC label: <{root.tag}> instead of <annotation>")
    return root


def _shapes(label: Path, root: Element, header: Header, collector: Collector, difficult: bool) -> Iterator[Shape]:
    """The objects of a label in its own coordinates; faults are listed."""
    stated = _stated(root)
    if stated not in ((0, 0), header.size(collector.exif)):
        collector.faults.append(f"{label}: {size_fault(stated, header, collector.exif)}")
        return
    for number, entry in enumerate(root.iter("object"), start=1):
        name, box = (entry.findtext("name") or "").strip(), [_number(entry.findtext(f"bndbox/{key}")) for key in _CORNERS]
        if not name or None in box:
            collector.faults.append(f"{label}, object {number}: without a name or a box of four numbers ({', '.join(_CORNERS)})")
            continue
        x0, y0, x1, y1 = (value for value in box if value is not None)
        if x1 < x0 or y1 < y0:
            collector.faults.append(f"{label}, object {number}: the box {[x0, y0, x1, y1]} ends before it begins")
            continue
        hard = (entry.findtext("difficult") or "").strip() == "1"
        if hard and not difficult:
            collector.count(DIFFICULT, label.name)
        yield Shape(name, (x0, y0, x1, y1), _polygons(entry), hard and not difficult)


def _polygons(entry: Element) -> list[list[float]] | None:
    """The polygons of an object as Roboflow writes them: x1, y1, x2, y2, ..."""
    parts = [[_number(value.text) for value in polygon] for polygon in entry.iter("polygon")]
    whole = [[value for value in part if value is not None] for part in parts]
    return [part for part in whole if len(part) >= 6 and len(part) % 2 == 0] or None


def _shifted(shape: Shape, shift: int) -> Shape:
    """A shape with pixels counted from 0; the last pixel of a box counted from 1 ends where the next one begins."""
    x0, y0, x1, y1 = shape.box
    mask = shape.mask and [[value - shift for value in part] for part in shape.mask]
    return Shape(shape.name, (x0 - shift, y0 - shift, x1, y1), mask, shape.ignored)


def _stated(root: Element) -> Size:
    """(height, width) in the label; (0, 0) if there is none."""
    height, width = (_number(root.findtext(f"size/{key}")) for key in ("height", "width"))
    return (int(height), int(width)) if height and width else (0, 0)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if is_coordinate(value) else None


def _listed(source: Path, split: str) -> set[str]:
    """The names of the images of a split, without extensions."""
    path = next(iter(sorted(source.rglob(f"ImageSets/Main/{split}.txt"))), None)
    if path is None:
        lists = source / "ImageSets" / "Main"
        raise DataError(f"there is no split {split}", where=source, expected=f"ImageSets/Main/{split}.txt", found=listing(lists, "*.txt"))
    return {line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()}


def size_fault(stated: Size, header: Header, exif: str) -> str:
    """That a label states another size than its photo has, and why if EXIF is the reason."""
    height, width = header.size(exif)
    text = f"made for {stated[1]} x {stated[0]} pixels, but the photo has {width} x {height}"
    other = "ignore" if exif == "apply" else "apply"
    return f"{text}; it fits the photo read with --exif {other}" if header.size(other) == stated else text
