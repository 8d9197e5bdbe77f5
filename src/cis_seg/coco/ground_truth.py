"""The ground truth of a scored data set: a COCO json, checked, with masks as run-length codes. No image is read.

Also how annotations without a mask or an area are scored.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box
from cis_seg.coco.checks import degenerate_parts, is_score
from cis_seg.coco.entries import Annotation, Needs
from cis_seg.coco.reader import CocoFile, read_coco, warn_once, without_area
from cis_seg.errors import DataError

_CIS_BYTES = 2_372_925  # compared first, so that no other file is read for its checksum
_CIS_SHA256 = "0e3b68cbd4912142ff6af41f79894421b9b1a3e026fb08dccb044df62727c8df"
CIS_IMAGES, CIS_INSTANCES = 459, 3453

log = logging.getLogger(__name__)


def known_file(path: Path) -> str | None:
    """A description of the file, or None if it is not a published one."""
    if path.stat().st_size != _CIS_BYTES or sha256(path.read_bytes()).hexdigest() != _CIS_SHA256:
        return None
    return (
        f"the published CIS ground truth, complete: {CIS_IMAGES} images, {CIS_INSTANCES:,} instances "
        "(the paper's text says 463 images; the file that was published has 459)"
    )


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress the progress messages of pycocotools: standard output belongs to results and tables."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def scored_needs(categories: Sequence[str] | None) -> Needs:
    """What scoring needs of a COCO json; ``categories`` as in ``GroundTruth``."""
    return Needs(categories, file_names=False, boxes=False, masks="optional", areas=True)


def warn_of_maskless(maskless: int, total: int, path: Path) -> None:
    """Log, once per file, how annotations without a mask are scored."""
    if maskless and maskless == total:
        warn_once(f"{path}: no annotation has a mask, so only boxes are scored: segm/AP and every other score of masks stays empty")
    elif maskless:
        warn_once(f"{path}: {maskless} of {total} annotations have no mask; they count for boxes and are ignore regions for masks")


def check_areas(lacking: Sequence[int], area: str, path: Path) -> None:
    """Refuse annotations without ``area`` if the published areas split the scores by size.

    Args:
        lacking: ids of the annotations without one.
        area: ``eval.area``.
        path: the annotation file.

    Raises:
        DataError: names the first one, and the option that does without.
    """
    if area == "published" and lacking:
        raise DataError(
            f"{len(lacking)} annotations have no area",
            where=f"{path}, first: annotation {lacking[0]}",
            expected="the key area, which splits small, medium and large",
            remedy="use eval.area=mask",
        )


class GroundTruth:
    """A COCO json as COCOeval expects it, with its known quirks corrected.

    * Annotation ids are shifted by one if id 0 exists: COCOeval stores the matched annotation's id and reads 0 as
      "no match", so that annotation could never be found (CIS.json against itself would score 0.990).
    * Polygon parts of one or two points are left out and counted.
    * An annotation without a mask is scored as a box. In the evaluation of masks its box is an ignore region, treated as
      COCO treats crowd regions: predictions inside are not counted as wrong, and missing it is not penalised.

    Args:
        path: the json.
        categories: names of the categories to score, in the order of the labels; None takes all, by category id.
        file: its content, if it is read already (with ``scored_needs``).
        crowd: the same people as CrowdHuman annotates them, if the data set is CrowdHuman.

    Attributes:
        coco: pycocotools' index; every annotation has id, image_id, category_id, bbox, iscrowd, segmentation (an RLE),
            area (the mask's if the file states none) and max_iou (OCHuman's, None if the file states none).
        images: image id -> its entry.
        category_ids, category_names: what is scored; label i of a prediction is category_ids[i].
        known_category_ids: every category id of the file.
        maskless: ids of the annotations without a mask.
        arealess: ids in the file of the annotations without an area.
        dropped_parts: number of polygon parts left out.

    Raises:
        DataError: the file is missing or corrupt, or an annotation is invalid.
    """

    def __init__(
        self, path: str | Path, categories: Sequence[str] | None = None, *, file: CocoFile | None = None, crowd: CrowdTruth | None = None
    ) -> None:
        file = read_coco(Path(path), scored_needs(categories)) if file is None else file
        self.path, self.images, self.image_size, self.crowd = file.path, file.images, file.image_size, crowd
        self.category_ids, self.category_names = tuple(file.categories), tuple(file.categories.values())
        self.known_category_ids = file.known_category_ids
        self.maskless: set[int] = set()
        self.arealess = without_area(file)
        self.dropped_parts = sum(degenerate_parts(annotation.entry.get("segmentation")) for annotation in file.annotations)
        self._id_shift = int(any(annotation.id == 0 for annotation in file.annotations))
        self.coco = COCO()
        self.coco.dataset = {
            "info": {},  # some releases of pycocotools insist on it
            "images": list(file.images.values()),
            "categories": [{"id": number, "name": name} for number, name in file.categories.items()],
            "annotations": [self._prepared(annotation) for annotation in file.annotations],
        }
        with silenced():
            self.coco.createIndex()
        self._report()

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

    def _prepared(self, annotation: Annotation) -> dict[str, Any]:
        """The annotation reduced to what is scored, its mask encoded, its id shifted."""
        number, size, area = annotation.id + self._id_shift, self.image_size(annotation.image_id), annotation.entry.get("area")
        mask = rle.from_segmentation(annotation.entry.get("segmentation"), size)
        if mask is None:
            self.maskless.add(number)
            mask = rle.box_mask(annotation.box, size)
        return {
            "id": number,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": annotation.box,
            "iscrowd": int(annotation.crowd),
            "segmentation": mask,
            "area": float(rle.area(mask)) if area is None else area,
            "max_iou": stated if is_score(stated := annotation.entry.get("max_iou")) else None,
        }

    def _report(self) -> None:
        log.info("%s: %s", self.path.name, known_file(self.path) or f"{len(self.images)} images, {len(self.coco.anns)} annotations")
        if self.dropped_parts:
            log.info("%s: %d polygon parts of fewer than 3 points left out", self.path.name, self.dropped_parts)
        warn_of_maskless(len(self.maskless), len(self.coco.anns), self.path)


BOX_KINDS = ("visible", "full", "head")


@dataclass
class CrowdImage:
    """One image. Boxes are xyxy as annotated: they may leave the image, lie outside it or have no area."""

    size: tuple[int, int]  # (height, width) in pixels
    people: list[Box] = field(default_factory=list)
    ignored: list[Box] = field(default_factory=list)  # ignore regions


@dataclass(frozen=True)
class CrowdTruth:
    """The ground truth of one kind of box.

    Attributes:
        kind: one of ``BOX_KINDS``.
        images: image id -> its boxes, in the order of the annotation file, including images without people.
    """

    kind: str
    images: dict[int, CrowdImage]
