"""Exports of annotation tools: match their images to the job, and check their masks.

Tools renumber images and annotations, prepend folders or a hash to file names, and drop characters from them. So images are matched by
what is left of their names, and people by position (``merging.match``).

Legend: boxes are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from cis_seg.annotation.job import Job
from cis_seg.annotation.problems import Problem
from cis_seg.coco import rle
from cis_seg.inspection.contents import Contents, read_contents
from cis_seg.inspection.oddities import find_oddities, outline_beyond

SAME_REGION = 0.9  # mask IoU from which an annotation counts as one of the job's ignore regions, which annotators leave unchanged
ROUNDING = 1.0  # px that a point may lie outside its image, because tools round; it is clipped
_FROM_CONTENTS = {"unusable", "box_without_area", "degenerate_part", "duplicate", "box_off_mask"}
_HASH = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's


@dataclass(frozen=True)
class Outline:
    """The outline of one person."""

    source: str  # name of the export
    export_id: int  # of the annotation in it
    mask: dict[str, Any]  # RLE
    segmentation: Any  # the same as it will be written: the tool's polygons, or a run-length code

    @property
    def box(self) -> list[int]:
        """The mask's tight box."""
        return [int(side) for side in rle.tight_box(self.mask)]


@dataclass
class Export:
    """The part of one file that belongs to the job."""

    source: str
    outlines: dict[int, list[Outline]] = field(default_factory=lambda: defaultdict(list))  # by the job's image id
    problems: list[Problem] = field(default_factory=list)
    moved: int = 0  # annotations with a point clipped to the image
    unflagged: int = 0  # people that the tool had marked as ignore regions


def read_export(path: Path, job: Job) -> Export:
    """Read the usable outlines of a COCO json, and everything wrong with the others.

    Raises:
        DataError: the file is missing, or not a COCO json at all.
    """
    contents, export = read_contents(path, path.parent), Export(path.name)
    places = _places(contents, job, export)
    kept = []
    for annotation in contents.annotations:
        image_id = places.get(annotation["image_id"])
        if image_id is None or _is_region(annotation, [region["segmentation"] for region in job.regions[image_id].values()]):
            continue
        if contents.categories[annotation["category_id"]] != "person":
            _problem(export, "other_category", contents, annotation, contents.categories[annotation["category_id"]])
            continue
        # CVAT writes masks drawn with a brush as ignore regions (iscrowd 1), because COCO uses run-length codes for those
        export.unflagged += annotation["iscrowd"]
        kept.append({**annotation, "iscrowd": 0})
    contents.annotations = kept
    find_oddities(contents, pixels=False)
    for oddity in contents.oddities:
        if oddity.kind in _FROM_CONTENTS and (oddity.image_id is None or oddity.image_id in places):
            name = None if oddity.image_id is None else str(contents.images[oddity.image_id].get("file_name"))
            export.problems.append(Problem(oddity.kind, export.source, name, oddity.annotation_ids, oddity.detail))
    for annotation in kept:
        _add(annotation, places[annotation["image_id"]], contents, export)
    return export


def _places(contents: Contents, job: Job, export: Export) -> dict[int, int]:
    """The job's image id of each usable image of the export."""
    names = _job_names(job)
    outlined = {annotation["image_id"] for annotation in contents.annotations}
    places: dict[int, int] = {}
    taken: set[int] = set()
    for number, image in contents.images.items():
        name = str(image.get("file_name"))
        found = next((names[key] for key in _keys(name) if names.get(key) is not None), None)
        if found is None:
            export.problems.append(Problem("unknown_image", export.source, name, (), "no image of the job has this name"))
        elif contents.size(number) != job.size(found):
            sizes = [f"{width} x {height}" for height, width in (contents.size(number), job.size(found))]
            export.problems.append(Problem("other_size", export.source, name, (), f"{sizes[0]}, in the job {sizes[1]}"))
        elif number in outlined and found in taken:
            export.problems.append(Problem("image_twice", export.source, name, (), "outlined twice in this export"))
        else:
            places[number] = found
            taken |= {found} if number in outlined else set()
    return places


def _job_names(job: Job) -> dict[str, int | None]:
    """Possible names of the job's images -> image id, or None if ambiguous."""
    names: dict[str, int | None] = {}
    for image_id, image in job.images.items():
        for key in set(_keys(image["file_name"])):
            names[key] = None if key in names else image_id
    return names


def _keys(name: str) -> list[str]:
    """A file name as it is, without folders and unusual characters (CrowdHuman's comma), and also without a leading hash."""
    last = re.sub(r"[^\w.-]", "", PureWindowsPath(name).name)
    return [name, last, _HASH.sub("", last)]


def _is_region(annotation: dict[str, Any], regions: Sequence[dict[str, Any]]) -> bool:
    mask = annotation["segmentation"]
    return bool(mask and regions) and bool(rle.mask_iou([mask], regions).max() >= SAME_REGION)


def _add(annotation: dict[str, Any], image_id: int, contents: Contents, export: Export) -> None:
    """Add the outline of one annotation, or the problem with it."""
    mask, parts, size = annotation["segmentation"], annotation["outline"], contents.size(annotation["image_id"])
    beyond = outline_beyond(parts, size)
    if mask is None:
        _problem(export, "no_mask", contents, annotation, "a box alone")
    elif not rle.area(mask):
        _problem(export, "empty_mask", contents, annotation, "0 px")
    elif beyond > ROUNDING:
        _problem(export, "polygon_outside", contents, annotation, f"{beyond:g} px")
    else:
        export.moved += beyond > 0
        segmentation = [_inside(part, size) for part in parts] or rle.to_json(mask)
        export.outlines[image_id].append(Outline(export.source, annotation["id"], mask, segmentation))


def _inside(part: Sequence[float], size: tuple[int, int]) -> list[float]:
    """A polygon with its points clipped to an image of (height, width)."""
    return [min(max(value, 0), size[1 - place % 2]) for place, value in enumerate(part)]


def _problem(export: Export, kind: str, contents: Contents, annotation: dict[str, Any], detail: str) -> None:
    name = str(contents.images[annotation["image_id"]].get("file_name"))
    export.problems.append(Problem(kind, export.source, name, (annotation["id"],), detail))
