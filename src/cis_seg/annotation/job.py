"""A job for annotators, as COCO json that CVAT, Label Studio and COCO Annotator import, and the problems of outlines drawn for it.

Ids start at 1. People have a box and possibly a draft mask; ignore regions have iscrowd 1 and a run-length code, as in COCO.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.boxes import corners
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import read_coco
from cis_seg.errors import DataError


def read_dropped(path: Path | None, job: Job) -> dict[int, str]:
    """Annotation id in the job -> why that person was dropped; empty without a file.

    A line is an id and a reason (``17 a statue``); empty lines and lines that begin with # are skipped.

    Raises:
        DataError: no such file, or a line with an unknown or repeated id, or without a reason.
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
                "a line of the list of dropped people is invalid",
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
    """The job with the images ``lines`` of ``content``, a CrowdHuman split converted by ``crowdhuman_coco.to_coco``."""
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
    region = rle.to_json(rle.box_mask(annotation["bbox"], size)) if annotation["iscrowd"] else []
    kept = {key: annotation[key] for key in ("bbox", "area", "iscrowd")}
    return {"id": number, "image_id": image_id, "category_id": PERSON["id"], **kept, "segmentation": region}


def with_draft(content: Json, draft: Json, form: str) -> Json:
    """The job with the masks of ``draft``, the same annotations as written by ``masks_from_boxes``.

    Args:
        content: of ``job_content``.
        draft: COCO json with a run-length code and a ``confidence`` for every person.
        form: ``polygons``, whose points people can edit, or ``rle``.
    """
    masked = {annotation["id"]: annotation for annotation in draft["annotations"]}
    annotations = []
    for annotation in content["annotations"]:
        found = masked[annotation["id"]]
        if not annotation["iscrowd"] and found["area"]:
            mask = found["segmentation"]
            annotation = {**found, "segmentation": rle.polygons(mask) if form == "polygons" else mask}
        annotations.append(annotation)
    return {**content, "annotations": annotations}


@dataclass(frozen=True)
class Job:
    """A job as given to annotators; masks are RLEs."""

    path: Path
    description: str
    images: dict[int, Json]  # by id, in the job's order
    people: dict[int, dict[int, Json]]  # image id -> annotation id -> annotation; a key for every image
    regions: dict[int, dict[int, Json]]  # the same for ignore regions

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of an image."""
        return self.images[image_id]["height"], self.images[image_id]["width"]

    def person_ids(self) -> set[int]:
        """Annotation id of every person to outline."""
        return {number for people in self.people.values() for number in people}


def read_job(path: Path) -> Job:
    """Read the job in ``path``.

    Raises:
        DataError: not a COCO json, or an id, a box or a mask is invalid; the message names it.
    """
    file = read_coco(path, Needs(masks="optional"))
    people: dict[int, dict[int, Json]] = {image_id: {} for image_id in file.images}
    regions: dict[int, dict[int, Json]] = {image_id: {} for image_id in file.images}
    for annotation in file.annotations:
        if corners(annotation.box) is None:
            problem = f"annotation {annotation.id} has a box without width or height"
            raise DataError(problem, where=path, remedy="use the job as it was written")
        mask = rle.from_segmentation(annotation.entry.get("segmentation"), file.image_size(annotation.image_id))
        group = regions if annotation.crowd else people
        group[annotation.image_id][annotation.id] = {**annotation.entry, "segmentation": mask}
    info = file.others.get("info")
    description = str(info.get("description", "")) if isinstance(info, Mapping) else ""
    return Job(path, description, file.images, people, regions)
