"""The ground truth of a scored data set: a COCO json, checked, its masks run-length coded. No pixel is read.

Legend: boxes here are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cis_seg.coco.json_values import counts_fit, is_area, is_coordinate, is_degenerate, is_id, is_polygon, is_side
from cis_seg.errors import DataError

_CIS_BYTES = 2_372_925  # compared first, so that no other file is read for its checksum
_CIS_SHA256 = "0e3b68cbd4912142ff6af41f79894421b9b1a3e026fb08dccb044df62727c8df"
CIS_IMAGES, CIS_INSTANCES = 459, 3453


def known_file(path: Path) -> str | None:
    """What is to be said about the file, or None for one that is not known."""
    if path.stat().st_size != _CIS_BYTES or sha256(path.read_bytes()).hexdigest() != _CIS_SHA256:
        return None
    return (
        f"the published CIS ground truth, complete: {CIS_IMAGES} images, {CIS_INSTANCES:,} instances "
        "(the paper's text says 463 images; the file that was published has 459)"
    )


log = logging.getLogger(__name__)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """pycocotools prints its progress: keep it off the screen (results files and tables are printed there)."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def read_json(path: Path, kind: str) -> Any:
    """The content of a JSON file; ``kind`` names it in the message ("the ground truth", "the results file").

    Raises:
        DataError: the file is missing, unreadable or no JSON.
    """
    if not path.is_file():
        raise DataError(f"{kind} does not exist", where=path, expected="a JSON file", remedy="check the path")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, no text, a number of thousands of digits; nested too deep
        converter = "convert it: python scripts/crowdhuman_to_coco.py"
        raise DataError(
            f"{kind} is not valid JSON",
            where=path,
            found=error,
            remedy=converter if path.suffix == ".odgt" else "it may be cut off: write or download it again",
        ) from error


def encode_mask(segmentation: Any, size: tuple[int, int]) -> tuple[dict[str, Any] | None, int]:
    """COCO's three ways to write a mask (polygons, plain and compressed RLE) as a compressed RLE.

    Polygon parts of fewer than three points enclose nothing and are left out: pycocotools would take a first part of
    two points for a box.

    Args:
        segmentation: a list of polygons, or a dictionary with ``size`` and ``counts``; may be empty or None.
        size: (height, width) of the image.
    Returns:
        The RLE, or None where nothing is outlined, and the number of parts left out.
    Raises:
        ValueError, TypeError, KeyError: what stands there is no mask of this size.
    """
    height, width = size
    if not segmentation:
        return None, 0
    if isinstance(segmentation, dict):
        if [int(side) for side in segmentation["size"]] != [height, width]:
            raise ValueError(f"mask of size {segmentation['size']} in an image of [{height}, {width}]")
        counts = segmentation["counts"]
        if not isinstance(counts, bytes) and not counts_fit(counts, size):
            raise ValueError(f"run lengths that are none of {height} x {width} pixels: {str(counts)[:80]}")
        if isinstance(counts, list):
            return dict(coco_mask.frPyObjects(segmentation, height, width)), 0
        return {"size": [height, width], "counts": counts}, 0
    if not isinstance(segmentation, list) or not all(is_polygon(part) or is_degenerate(part) for part in segmentation):
        raise TypeError(f"neither polygons nor a run-length code: {str(segmentation)[:80]}")
    parts = [part for part in segmentation if is_polygon(part)]
    dropped = len(segmentation) - len(parts)
    return (dict(coco_mask.merge(coco_mask.frPyObjects(parts, height, width))) if parts else None), dropped


def box_mask(box: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """The filled box [x, y, width, height] as an RLE of ``size`` (height, width); what leaves the image is cut off."""
    x0, y0, x1, y1 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return dict(coco_mask.frPyObjects([[x0, y0, x0, y1, x1, y1, x1, y0]], *size)[0])


class GroundTruth:
    """A COCO json as COCOeval wants it, with its known quirks mended.

    * Annotation ids are shifted by one where id 0 exists: COCOeval stores the matched annotation's id and reads 0 as
      "no match", so that annotation could never be found (CIS.json against itself would score 0.990).
    * Polygon parts of one or two points are left out and counted.
    * An annotation without a mask is scored as a box; for masks its box is a region to ignore, treated as COCO treats
      crowd regions: whatever is predicted inside costs nothing, and missing it costs nothing.

    Args:
        path: the json.
        categories: names of the categories to score, in the order of the labels; None takes all, by category id.

    Attributes:
        coco: pycocotools' index of it; every annotation has id, image_id, category_id, bbox, iscrowd, segmentation (an
            RLE) and area (the mask's where the file states none).
        category_ids, category_names: what is scored; label i of a prediction is category_ids[i].
        known_category_ids: every category id of the file.
        maskless: ids of the annotations without a mask.
        arealess: ids in the file of the annotations that state no area.
        dropped_parts: number of polygon parts left out.

    Raises:
        DataError: the file is missing or damaged, or an annotation makes no sense.
    """

    def __init__(self, path: str | Path, categories: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        dataset = read_json(self.path, "the ground truth")
        self._check_layout(dataset)
        self.images: dict[int, dict[str, Any]] = {image["id"]: image for image in dataset["images"]}
        self.known_category_ids = frozenset(category["id"] for category in dataset["categories"])
        chosen = self._chosen(dataset["categories"], categories)
        self.category_ids: tuple[int, ...] = tuple(category["id"] for category in chosen)
        self.category_names: tuple[str, ...] = tuple(category["name"] for category in chosen)
        self.maskless: set[int] = set()
        self.arealess: list[int] = []
        self.dropped_parts = 0
        self._id_shift = int(any(annotation.get("id") == 0 for annotation in dataset["annotations"]))
        self._refuse_unlisted_categories(dataset["annotations"])
        kept = [a for a in dataset["annotations"] if a["category_id"] in set(self.category_ids)]
        self.coco = COCO()
        prepared = [self._prepared(annotation) for annotation in kept]
        # "info" is there because some releases of pycocotools insist on it
        self.coco.dataset = {"info": {}, "images": dataset["images"], "categories": chosen, "annotations": prepared}
        with silenced():
            self.coco.createIndex()
        if len(self.coco.anns) < len(kept):
            raise DataError(
                "annotation ids are used more than once",
                where=self.path,
                expected="one id for each annotation",
                remedy="renumber the annotations",
            )
        self._tell()

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The annotations of the scored categories, crowd regions included, in the file's order."""
        return list(self.coco.dataset["annotations"])

    @property
    def has_masks(self) -> bool:
        """Whether any annotation has a mask of its own."""
        return len(self.maskless) < len(self.coco.anns)

    def image_annotations(self, image_id: int) -> list[dict[str, Any]]:
        """The annotations of one image, in the file's order."""
        return list(self.coco.imgToAnns.get(image_id, []))

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of one image."""
        image = self.images[image_id]
        return int(image["height"]), int(image["width"])

    def _check_layout(self, dataset: Any) -> None:
        lists = dataset if isinstance(dataset, dict) else {}
        keys = ("images", "annotations", "categories")
        if {"images", "categories"} <= lists.keys():  # a list of images alone, such as image_info_test-dev2017.json: nothing can be scored
            lists.setdefault("annotations", [])
        missing = [key for key in keys if not (isinstance(lists.get(key), list) and all(isinstance(entry, dict) for entry in lists[key]))]
        if missing:
            raise DataError(
                "the ground truth is not a COCO json",
                where=self.path,
                expected="lists of objects: images, annotations and categories",
                found=f"no list {', '.join(missing)}",
                remedy="give the annotation file of the data set",
            )
        for image in dataset["images"]:
            if not (is_id(image.get("id")) and is_side(image.get("height")) and is_side(image.get("width"))):
                raise DataError(
                    "an image of the ground truth lacks its id or size",
                    where=self.path,
                    expected="id, height and width, whole numbers",
                    found=str(image)[:200],
                    remedy="add them: masks are drawn at that size",
                )
        for category in dataset["categories"]:
            if not (is_id(category.get("id")) and isinstance(category.get("name"), str)):
                raise DataError(
                    "a category of the ground truth lacks its id or name",
                    where=self.path,
                    expected="id, a whole number, and name",
                    found=str(category)[:200],
                    remedy="add them",
                )

    def _chosen(self, categories: list[dict[str, Any]], names: Sequence[str] | None) -> list[dict[str, Any]]:
        if names is None:
            return sorted(categories, key=lambda category: int(category["id"]))
        by_name = {category["name"]: category for category in categories}
        for name in names:
            if name not in by_name:
                raise DataError(
                    f"category '{name}' does not exist",
                    where=self.path,
                    expected=f"one of {', '.join(by_name)}",
                    remedy="correct the list of categories",
                )
        return [by_name[name] for name in names]

    def _refuse_unlisted_categories(self, annotations: list[dict[str, Any]]) -> None:
        """Nobody is left out in silence for a category that does not exist."""
        for annotation in annotations:
            category_id = annotation.get("category_id")
            if not is_id(category_id) or category_id not in self.known_category_ids:
                raise DataError(
                    "an annotation belongs to a category that is not listed",
                    where=f"{self.path}, annotation {annotation.get('id')}",
                    found=f"category_id {str(category_id)[:80]}",
                    expected=f"one of {sorted(self.known_category_ids)[:20]}",
                    remedy="remove it or add its category",
                )

    def _prepared(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """The annotation reduced to what is scored, its mask coded, its id shifted."""
        where = f"{self.path}, annotation {annotation.get('id')}"
        image_id = annotation.get("image_id")
        image = self.images.get(image_id) if is_id(image_id) else None
        if image is None or not is_id(annotation.get("id")):
            raise DataError(
                "an annotation belongs to no image or has no id",
                where=where,
                found=f"image_id {str(image_id)[:80]}",
                remedy="remove it or add its image",
            )
        area = annotation.get("area")
        if annotation.get("iscrowd") not in (None, 0, 1) or not (area is None or is_area(area)):
            raise DataError(
                "an annotation makes no sense",
                where=where,
                expected="iscrowd 0 or 1, area a finite number of pixels",
                found=f"iscrowd {str(annotation.get('iscrowd'))[:80]}, area {str(area)[:80]}",
                remedy="correct or remove it",
            )
        size = (int(image["height"]), int(image["width"]))
        try:
            rle, dropped = encode_mask(annotation.get("segmentation"), size)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError("a segmentation cannot be read", where=where, found=error, remedy="correct or remove it") from error
        self.dropped_parts += dropped
        prepared = {
            "id": annotation["id"] + self._id_shift,
            "image_id": image["id"],
            "category_id": annotation["category_id"],
            "bbox": self._box(annotation, rle, where),
            "iscrowd": int(annotation.get("iscrowd") or 0),
        }
        if rle is None:
            self.maskless.add(prepared["id"])
            rle = box_mask(prepared["bbox"], size)
        prepared["segmentation"] = rle
        prepared["area"] = area
        if area is None:
            self.arealess.append(prepared["id"] - self._id_shift)
            prepared["area"] = float(coco_mask.area(rle))
        return prepared

    def _box(self, annotation: dict[str, Any], rle: dict[str, Any] | None, where: str) -> list[float]:
        box = annotation.get("bbox")
        if not box and rle is not None:
            return [float(value) for value in coco_mask.toBbox(rle)]
        if not isinstance(box, list) or len(box) != 4 or not all(is_coordinate(v) for v in box) or min(box[2:]) < 0:
            raise DataError(
                "an annotation has no usable box",
                where=where,
                expected="bbox [x, y, width, height], finite, no negative side",
                found=box,
                remedy="correct or remove the annotation",
            )
        return box

    def _tell(self) -> None:
        log.info("%s: %s", self.path.name, known_file(self.path) or f"{len(self.images)} images, {len(self.coco.anns)} annotations")
        if self.dropped_parts:
            log.info("%s: %d polygon parts of fewer than 3 points left out", self.path.name, self.dropped_parts)
        if self.maskless and self.has_masks:
            log.warning(
                "%s: %d of %d annotations have no mask; they count for boxes and are regions to ignore for masks",
                self.path.name,
                len(self.maskless),
                len(self.coco.anns),
            )
