"""COCO's results format: from detections to entries, and back from a file that any system wrote."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cis_seg.coco import rle
from cis_seg.coco.boxes import FEW, check_format
from cis_seg.coco.checks import check_box, is_id, is_score
from cis_seg.coco.file_names import match_file_names
from cis_seg.coco.reader import read_json, warn_once
from cis_seg.coco.spelling import Spelling
from cis_seg.errors import DataError

if TYPE_CHECKING:
    from cis_seg.structures import Instances

Entry = TypeVar("Entry", bound=Mapping[str, Any])

log = logging.getLogger(__name__)

_REMEDY = 'write masks at the size of the original image, and counts as text: counts.decode("ascii"), not str(counts)'


class KnownImages(Protocol):
    """What a results file is checked against: a ground truth, or a list of images without one."""

    path: Path
    images: dict[int, dict[str, Any]]
    known_category_ids: frozenset[int]

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of one image."""


def by_image(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """Return image id -> the results or annotations of the image, in their order."""
    found: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry["image_id"]].append(entry)
    return found


def to_results(instances: Instances, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Convert the detections of one image to COCO results entries, ready for ``json.dump`` and for ``metrics.score``.

    Args:
        instances: the detections, boxes in pixels of the original image.
        image_id: the id of the image in the ground truth.
        category_ids: category id of each label.

    Returns:
        One entry per detection: image_id, category_id, bbox [x, y, width, height], score, segmentation (compressed RLE,
        counts as text).
    """
    corners, sizes = instances.boxes[:, :2], instances.boxes[:, 2:] - instances.boxes[:, :2]
    boxes: list[list[float]] = [[*xy, *wh] for xy, wh in zip(corners.tolist(), sizes.tolist(), strict=True)]
    return [
        {
            "image_id": int(image_id),
            "category_id": int(category_ids[label]),
            "bbox": box,
            "score": score,
            "segmentation": rle.to_json(mask),
        }
        for box, score, label, mask in zip(boxes, instances.scores.tolist(), instances.labels.tolist(), instances.masks, strict=True)
    ]


def read_results(path: str | Path, ground_truth: KnownImages) -> list[dict[str, Any]]:
    """Read and check a COCO results file that any system wrote.

    An entry with a ``file_name`` belongs to the image of that name (``match_file_names``), and its ``image_id`` is replaced:
    systems that predict a folder number its files themselves, and such a number may be the id of another image. An entry
    without ``file_name`` belongs to the image of its ``image_id``.

    A segmentation may be polygons, plain or compressed run lengths, and comes back compressed. If it is missing or empty, the
    entry is scored as a box only. A box that is missing in some entries is taken from the mask. If it is missing in all
    entries it stays missing, because pycocotools takes the detections' areas (which decide the small, medium and large
    split) from the boxes if there are any and from the masks otherwise.

    An ``annotation_id``, which names the annotation that a mask belongs to, is kept.

    Numbers in quotes, whole numbers as floats and flat polygons are read as in annotation files, and counted in one warning. Boxes that
    are corners or fractions of the image are recognised as in annotation files, too.

    Raises:
        DataError: no such file, not JSON, not a list, ambiguous file names, boxes of another format, or an entry that cannot be scored;
            the message names the entry.
    """
    path = Path(path)
    entries = read_json(path, "the results file")
    if not isinstance(entries, list):
        raise DataError(
            "the results file is not a list",
            where=path,
            expected="a list of {image_id, category_id, score, bbox, segmentation}",
            found=f"an object with {sorted(entries)[:8]}" if isinstance(entries, dict) else type(entries).__name__,
            remedy="pass a COCO results file, not an annotation file; if the results are under a key of this one, write that list alone",
        )
    named = [entry["file_name"] for entry in entries if _is_named(entry)]
    by_name = match_file_names(named, ground_truth.images, source=ground_truth.path, where=path)
    spelling = Spelling()
    checked = [_checked(entry, by_name, ground_truth, spelling, f"{path}, entry {index}") for index, entry in enumerate(entries)]
    boxed = [entry for entry in checked if "bbox" in entry]
    sizes = [ground_truth.image_size(entry["image_id"]) for entry in boxed]
    format_note = check_format([entry["bbox"] for entry in boxed], sizes, path) if len(boxed) >= FEW else None
    for note in (*spelling.notes(), *([] if format_note is None else [format_note])):
        warn_once(f"{path}: {note}")
    log.info(
        "%s: %d results in %d of %d images of %s, %d matched by file name, %d by image id",
        *(path.name, len(checked), len({entry["image_id"] for entry in checked}), len(ground_truth.images), ground_truth.path.name),
        *(len(named), len(checked) - len(named)),
    )
    if boxed:
        for entry in checked:
            if "bbox" not in entry:
                entry["bbox"] = rle.tight_box(entry["segmentation"])
    return checked


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("file_name"), str)


def _image_id(entry: dict[str, Any], by_name: Mapping[str, int], ground_truth: KnownImages, where: str) -> int:
    """The id of the entry's image in the ground truth."""
    named, image_id = _is_named(entry), entry["image_id"]
    if named and entry["file_name"] in by_name:
        return by_name[entry["file_name"]]
    if not named and is_id(image_id) and image_id in ground_truth.images:
        return int(image_id)
    remedy = "use it with the data set it was made for"
    raise DataError(
        "a result is for an image that the data set does not have",
        where=where,
        found=f"file_name {entry['file_name']!r}" if named else f"image_id {image_id!r}",
        expected=f"{'a file name' if named else 'an image id'} of {ground_truth.path}",
        remedy=f"{remedy}, or remove file_name from entries that have its image ids" if named else remedy,
    )


def _category_id(entry: dict[str, Any], ground_truth: KnownImages, where: str) -> int:
    """The id of the entry's category, which is one of the ground truth's file."""
    category_id = entry["category_id"]
    if is_id(category_id) and category_id in ground_truth.known_category_ids:
        return int(category_id)
    known = ", ".join(str(known_id) for known_id in sorted(ground_truth.known_category_ids)[:10])
    raise DataError(
        "a result has a category that the data set does not have",
        where=where,
        found=f"category_id {category_id!r}",
        expected=f"one of {known}, ...",
        remedy="write the data set's category ids, not the labels of the network",
    )


def _checked(entry: Any, by_name: Mapping[str, int], ground_truth: KnownImages, spelling: Spelling, where: str) -> dict[str, Any]:
    """One entry with the image id of the ground truth and its mask compressed."""
    missing = [k for k in ("image_id", "category_id", "score") if not isinstance(entry, dict) or k not in entry]
    if missing:
        raise DataError(
            f"a result lacks {', '.join(missing)}",
            where=where,
            expected="image_id, category_id, score",
            found=str(entry)[:200],
            remedy="write the missing keys",
        )
    spelling.whole(entry, "image_id", "category_id")
    spelling.number(entry, "score")
    spelling.numbers(entry, "bbox")
    image_id, category_id, score = _image_id(entry, by_name, ground_truth, where), _category_id(entry, ground_truth, where), entry["score"]
    if not is_score(score):
        raise DataError("a result has no finite score", where=where, expected="a number", found=score, remedy="correct or remove the entry")
    checked: dict[str, Any] = {"image_id": image_id, "category_id": category_id, "score": score}
    if "annotation_id" in entry:
        checked["annotation_id"] = entry["annotation_id"]
    size = ground_truth.image_size(image_id)
    spelling.check_mask(entry, size, culprit="a result", where=where, remedy=_REMEDY)
    mask = rle.from_segmentation(entry.get("segmentation"), size)
    if entry.get("bbox"):
        checked["bbox"] = list(check_box(entry["bbox"], culprit="a result", where=where))
    elif mask is None:
        raise DataError("a result has neither a box nor a mask", where=where, expected="bbox or segmentation", remedy="remove the entry")
    if mask is not None:
        checked["segmentation"] = rle.to_json(mask)
    return checked
