"""A job for annotators: a COCO json of boxes, and of masks to start from, that CVAT, Label Studio and COCO Annotator import.

Ids count from 1; people have a box and perhaps a mask, regions to ignore are crowd regions with a run-length code, COCO's form for them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cis_seg.coco.ground_truth import box_mask, encode_mask
from cis_seg.coco.json_values import MIN_POLYGON_NUMBERS
from cis_seg.data.checks import parse_box
from cis_seg.data.coco import check_annotation, image_records, read_json
from cis_seg.errors import DataError

TOLERANCE = 1.0  # px that a polygon may stray from its mask's edge, because people move its points by hand and stairs have too many


def plain_rle(mask: dict[str, Any]) -> dict[str, Any]:
    """A compressed RLE fit for ``json.dump``."""
    counts = mask["counts"]
    return {"size": [int(side) for side in mask["size"]], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def polygons(mask: dict[str, Any]) -> list[list[int]]:
    """The outlines of a mask's pieces, each of three points or more; none for a mask without a pixel.

    COCO's polygons know no holes: those of the mask are filled. Points are whole numbers, as in CIS.json.
    """
    left, top, width, height = (int(side) for side in coco_mask.toBbox(mask))
    if not width:
        return []
    pixels = np.asarray(coco_mask.decode(mask))[top : top + height, left : left + width]
    # OpenCV's contours run through the centres of the outermost pixels. With every pixel doubled, index 2x is the pixel at the left edge of
    # column x and 2x + 1 the one at its right edge, so that half of the next number is the edge itself.
    contours, _ = cv2.findContours(pixels.repeat(2, axis=0).repeat(2, axis=1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(_simple((np.asarray(contour, dtype=np.int32) + 1) // 2)[:, 0] + (left, top)).ravel().tolist() for contour in contours]


def _simple(contour: NDArray[np.int32]) -> NDArray[np.int32]:
    """A contour (P, 1, 2) with fewer points; as it is where nothing would be left of it."""
    simple = np.asarray(cv2.approxPolyDP(contour, TOLERANCE, closed=True), dtype=np.int32)
    return simple if simple.size >= MIN_POLYGON_NUMBERS and cv2.contourArea(simple) else contour


def read_dropped(path: Path | None, job: Job) -> dict[int, str]:
    """Annotation id of the job -> why that person was dropped; nobody without a file.

    A line is an id and a reason (``17 a statue``); empty lines and those that begin with # say nothing.

    Raises:
        DataError: no such file, or a line that names nobody of the job, or somebody twice, or gives no reason.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the list of dropped people cannot be read", where=path, found=error, expected="a text file") from error
    known, dropped = job.person_ids(), dict[int, str]()
    for number, line in enumerate(lines, start=1):
        first, _, reason = line.strip().partition(" ")
        if not first or first.startswith("#"):
            continue
        person = int(first) if first.isascii() and first.isdigit() and len(first) < 19 else None
        if person not in known or person in dropped or not reason.strip():
            raise DataError(
                "a line of the list of dropped people makes no sense",
                where=f"{path}, line {number}",
                expected=f"the annotation id of a person in {job.path.name}, each once, and a reason",
                found=line[:80],
                remedy="correct it, or delete it",
            )
        dropped[person] = reason.strip()
    return dropped


Json = dict[str, Any]
PERSON = {"id": 1, "name": "person", "supercategory": "person"}


def job_content(content: Json, lines: Collection[int], description: str) -> Json:
    """The job of the images ``lines`` of ``content``, a CrowdHuman split as ``crowdhuman_coco.to_coco`` makes it."""
    images = [image for image in content["images"] if image["id"] in lines]
    ids = {image["id"]: number for number, image in enumerate(images, start=1)}
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    chosen = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    return {
        "info": {"description": description},
        "licenses": [],
        "categories": [PERSON],
        "images": [{**image, "id": ids[image["id"]]} for image in images],
        "annotations": [
            _entry(annotation, number, ids[annotation["image_id"]], sizes[annotation["image_id"]])
            for number, annotation in enumerate(chosen, start=1)
        ],
    }


def _entry(annotation: Json, number: int, image_id: int, size: tuple[int, int]) -> Json:
    region = plain_rle(box_mask(annotation["bbox"], size)) if annotation["iscrowd"] else []
    kept = {key: annotation[key] for key in ("bbox", "area", "iscrowd")}
    return {"id": number, "image_id": image_id, "category_id": PERSON["id"], **kept, "segmentation": region}


def with_draft(content: Json, draft: Json, form: str) -> Json:
    """The job with the masks of ``draft``, the same annotations as ``masks_from_boxes`` writes them.

    Args:
        content: of ``job_content``.
        draft: COCO json with a run-length code and a ``confidence`` for every person.
        form: ``polygons``, whose points people can move, or ``rle``.
    """
    masked = {annotation["id"]: annotation for annotation in draft["annotations"]}
    annotations = []
    for annotation in content["annotations"]:
        found = masked[annotation["id"]]
        if not annotation["iscrowd"] and found["area"]:
            rle = found["segmentation"]
            annotation = {**found, "segmentation": polygons(rle) if form == "polygons" else rle}
        annotations.append(annotation)
    return {**content, "annotations": annotations}


@dataclass(frozen=True)
class Job:
    """A job as it was given to annotators; masks are RLEs."""

    path: Path
    description: str
    images: dict[int, Json]  # by id, in the job's order
    people: dict[int, dict[int, Json]]  # image id -> annotation id -> annotation, for every image
    regions: dict[int, dict[int, Json]]  # the same for regions to ignore

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of an image."""
        return self.images[image_id]["height"], self.images[image_id]["width"]

    def person_ids(self) -> set[int]:
        """Every person to be outlined."""
        return {number for people in self.people.values() for number in people}


def read_job(path: Path) -> Job:
    """The job in ``path``.

    Raises:
        DataError: no COCO json, or an id, a box or a mask makes no sense; the message names it.
    """
    content = read_json(path)
    records = image_records(content["images"], path)
    known = {category["id"] for category in content["categories"] if isinstance(category.get("id"), int)}
    people: dict[int, dict[int, Json]] = {image_id: {} for image_id in records}
    regions: dict[int, dict[int, Json]] = {image_id: {} for image_id in records}
    seen: set[int] = set()
    for entry in content["annotations"]:
        image_id = check_annotation(entry, records, known, seen, path).image_id
        culprit = f"annotation {entry['id']}"
        if parse_box(entry.get("bbox"), culprit=culprit, where=path) is None:
            raise DataError(f"{culprit} has a box without width or height", where=path, remedy="give the job as it was written")
        mask = _mask(entry.get("segmentation"), records[image_id].size, culprit, path)
        (regions if entry.get("iscrowd") else people)[image_id][entry["id"]] = {**entry, "segmentation": mask}
    info = content.get("info")
    description = str(info.get("description", "")) if isinstance(info, Mapping) else ""
    return Job(path, description, {image["id"]: image for image in content["images"]}, people, regions)


def _mask(segmentation: Any, size: tuple[int, int], culprit: str, where: Path) -> Json | None:
    try:
        mask, _ = encode_mask(segmentation, size)
        if mask is not None:
            coco_mask.area(mask)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{culprit} has a mask that cannot be read", where=where, found=error, remedy="give the job as written") from error
    return mask
