"""Reader of COCO instance annotations (``instances_*.json``, ``CIS.json``, ...)."""

from __future__ import annotations

import difflib
import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cis_seg.coco.json_values import counts_fit, is_degenerate, is_id, is_polygon, is_side
from cis_seg.data.checks import NO_AREA, OUTSIDE, check_file_name, inside, listing, parse_box, report_dropped
from cis_seg.data.records import ImageRecord, InstanceDataset, pack
from cis_seg.errors import DataError

_MOST_NAMES = 100  # COCO's 80 categories fit into a message, LVIS's 1203 do not


class CocoDataset(InstanceDataset):
    """The images of a COCO json.

    Labels count in the order of ``categories``, or of the category ids where all are taken. Crowd regions
    (``iscrowd`` 1) never train as boxes; their boxes are kept apart in ``records.ignore_boxes``. Boxes are clipped to
    the image; empty ones and those outside their image are left out, with a line in the log.

    Args:
        annotations: the json file.
        images: folder that its ``file_name`` entries are relative to.
        categories: names of the categories to keep; None keeps all.
        keep_empty: keep the images that have no annotation of these categories.
        load_masks: keep the segmentations too.
        ignore_regions: samples carry the boxes of crowd regions as regions to ignore. Not for COCO itself, where such a box can cover
            most of the image: as in the reference, what is in it then trains as background where it is nobody's.

    Raises:
        DataError: a missing file or folder, a category that does not exist, or an annotation that makes no sense.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        categories: Sequence[str] | None = None,
        keep_empty: bool = False,
        load_masks: bool = False,
        ignore_regions: bool = False,
    ) -> None:
        with _collector_paused():
            content = read_json(annotations)
            chosen = choose_categories(content["categories"], categories, annotations)
            found = image_records(content["images"], annotations)
            _add_annotations(content, found, {i: label for label, i in enumerate(chosen)}, annotations, load_masks)
            del content
        kept = [image for image in found.values() if keep_empty or image.boxes]
        if not kept:
            raise DataError(
                "no image is left to train on or to score",
                where=annotations,
                expected=f"annotations of {', '.join(list(chosen.values())[:_MOST_NAMES])}",
                found=f"{len(found)} images without any",
                remedy="choose other categories, or set keep_empty=true",
            )
        super().__init__(
            pack(kept, with_segmentations=load_masks),
            images,
            class_names=tuple(chosen.values()),
            category_ids=tuple(chosen),
            source=annotations,
            ignore_regions=ignore_regions,
        )


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection while millions of objects are made, which it would visit again and again: a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_json(path: Path) -> dict[str, Any]:
    """The content of a COCO instances file, or of a list of images without annotations, such as ``image_info_test-dev2017.json``.

    Raises:
        DataError: missing, not JSON (names line and column), or without lists of images and categories.
    """
    if not path.is_file():
        raise DataError(
            "there is no annotation file",
            where=path,
            expected="a COCO instances json",
            found=f"json files in {path.parent}: {listing(path.parent, '*.json')}",
            remedy="give the path of the json",
        )
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, no text, a number of thousands of digits; nested too deep
        raise DataError(
            f"{path.name} is not valid JSON",
            where=path,
            found=f"{error} ({path.stat().st_size} bytes)",
            expected="a COCO instances json",
            remedy="convert it: python scripts/crowdhuman_to_coco.py"
            if path.suffix == ".odgt"
            else "the file is damaged or cut short: download or write it again",
        ) from error
    keys = ("images", "annotations", "categories")
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        content.setdefault("annotations", [])
    if not isinstance(content, dict) or not all(_is_list_of_objects(content.get(key)) for key in keys):
        found = f"an object with {sorted(content)[:8]}" if isinstance(content, dict) else f"a {type(content).__name__} (a results file?)"
        raise DataError(
            f"{path.name} is not a COCO instances file",
            where=path,
            found=found,
            expected=f"an object with lists of objects: {', '.join(keys)}",
            remedy="give the file of annotations, not captions, keypoints or results",
        )
    return content


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def choose_categories(listed: Sequence[dict[str, Any]], wanted: Sequence[str] | None, where: Path) -> dict[int, str]:
    """Category id -> name, in the order of the labels.

    Raises:
        DataError: a wanted name does not exist (names the nearest), or ids or names are listed twice.
    """
    pairs = [(category.get("id"), category.get("name")) for category in listed]
    ids: dict[str, int] = {name: i for i, name in sorted((i, name) for i, name in pairs if is_id(i) and isinstance(name, str))}
    if len(ids) != len(listed) or len(set(ids.values())) != len(listed):
        raise DataError(
            "a category is listed twice or lacks its id or name",
            where=where,
            found=pairs[:_MOST_NAMES],
            expected="different integer ids and different names",
            remedy="correct 'categories'",
        )
    if wanted is None:
        return {category_id: name for name, category_id in ids.items()}
    for name in wanted:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
            more = f" and {len(ids) - _MOST_NAMES} more, under 'categories' in the file" if len(ids) > _MOST_NAMES else ""
            raise DataError(
                f"category {name!r} does not exist",
                where=where,
                found=name,
                expected=f"one of {', '.join(list(ids)[:_MOST_NAMES])}{more}",
                remedy=f"did you mean {' or '.join(map(repr, near))}?" if near else "choose one of these names",
            )
    if not wanted or len(set(wanted)) != len(wanted):
        raise DataError(
            "the choice of categories is empty or names one twice",
            where=where,
            found=list(wanted),
            expected="one or more different names",
            remedy="correct the list, or leave it out to take all categories",
        )
    return {ids[name]: name for name in wanted}


def image_records(images: Sequence[dict[str, Any]], where: Path) -> dict[int, ImageRecord]:
    """Image id -> its record, still without boxes.

    Raises:
        DataError: an id that is none or is used twice, a size that is none, or a file name that leaves the image folder.
    """
    found: dict[int, ImageRecord] = {}
    for entry in images:
        image_id = entry.get("id")
        culprit = f"image {image_id}"
        if not is_id(image_id) or image_id in found:
            raise DataError(
                f"{culprit} has no usable id or is listed twice",
                where=where,
                expected="a different integer id for each image",
                found=entry,
                remedy="give every image its own id",
            )
        size = (entry.get("height"), entry.get("width"))
        if not all(is_side(side) for side in size):
            raise DataError(
                f"{culprit} has no usable size",
                where=where,
                expected="height and width in pixels",
                found=f"height {size[0]}, width {size[1]}",
                remedy="write the size of the file into the json",
            )
        name = check_file_name(entry.get("file_name"), culprit=culprit, where=where)
        found[image_id] = ImageRecord(image_id, name, (size[0], size[1]))  # type: ignore[arg-type]
    return found


def _add_annotations(content: dict[str, Any], images: dict[int, ImageRecord], labels: dict[int, int], where: Path, masks: bool) -> None:
    known = {category["id"] for category in content["categories"]}
    seen: set[int] = set()
    dropped: Counter[str] = Counter()
    for entry in content["annotations"]:
        image = check_annotation(entry, images, known, seen, where)
        label = labels.get(entry["category_id"])
        if label is None:
            continue
        culprit = f"annotation {entry['id']} of image {image.image_id} ({image.file_name})"
        whole = parse_box(entry.get("bbox"), culprit=culprit, where=where)
        box = None if whole is None else inside(whole, image.size)
        if box is None:
            dropped[NO_AREA if whole is None else OUTSIDE] += 1
        elif entry.get("iscrowd"):
            image.ignored.append(box)
        else:
            image.boxes.append(box)
            image.labels.append(label)
            if masks:
                image.segmentations.append(_segmentation(entry.get("segmentation"), image.size, culprit, where))
    report_dropped(where, dropped)


def check_annotation(entry: dict[str, Any], images: dict[int, ImageRecord], known: set[int], seen: set[int], where: Path) -> ImageRecord:
    """The image of an annotation whose ids are right; adds its own id to ``seen``.

    Raises:
        DataError: an id that is none or is used twice, or an image or a category that is not listed.
    """
    annotation_id, image_id = entry.get("id"), entry.get("image_id")
    if not is_id(annotation_id) or annotation_id in seen:
        raise DataError(
            f"annotation {annotation_id} has no usable id or is listed twice",
            where=where,
            found=f"image_id {image_id}",
            expected="a different integer id for each annotation",
            remedy="give every annotation its own id",
        )
    seen.add(annotation_id)
    if not is_id(image_id) or image_id not in images:
        raise DataError(
            f"annotation {annotation_id} belongs to an image that is not listed",
            where=where,
            found=f"image_id {image_id}",
            expected="the id of one of 'images'",
            remedy="add the image or delete the annotation",
        )
    if entry.get("iscrowd") not in (None, 0, 1):
        raise DataError(
            f"annotation {annotation_id} is neither a crowd region nor none",
            where=where,
            found=f"iscrowd {str(entry['iscrowd'])[:80]!r}",
            expected="0 or 1",
            remedy="correct this annotation or delete it",
        )
    if not is_id(entry.get("category_id")) or entry["category_id"] not in known:
        raise DataError(
            f"annotation {annotation_id} belongs to a category that is not listed",
            where=where,
            found=f"category_id {entry.get('category_id')}",
            expected=sorted(known)[:_MOST_NAMES],
            remedy="add the category or delete the annotation",
        )
    return images[image_id]


def _segmentation(mask: Any, size: tuple[int, int], culprit: str, where: Path) -> bytes:
    """The mask as JSON bytes, checked for its form."""
    if isinstance(mask, list):
        sound = any(is_polygon(part) for part in mask) and all(is_polygon(part) or is_degenerate(part) for part in mask)
    else:
        sound = isinstance(mask, dict) and mask.get("size") == list(size) and counts_fit(mask.get("counts"), size)
    if not sound:
        raise DataError(
            f"{culprit} has no usable mask",
            where=where,
            found=str(mask)[:80],
            expected=f"polygons of three points or more, or a run-length code of size {list(size)} (height, width)",
            remedy="train from boxes (supervision=box), or correct the mask",
        )
    return json.dumps(mask, separators=(",", ":")).encode()
