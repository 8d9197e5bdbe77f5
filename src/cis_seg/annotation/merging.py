"""Merge a job and its exports into one test set in the format of CIS.json, without its quirks.

Ids start at 1, ``area`` is the mask's, ``bbox`` its tight box; ignore regions come from the job, with ``iscrowd`` 1.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file; masks are RLEs at the image's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cis_seg.annotation.exports import Export, Outline
from cis_seg.annotation.job import PERSON, Job
from cis_seg.annotation.problems import Problem
from cis_seg.annotation.problems import as_text as problems_as_text
from cis_seg.coco import rle
from cis_seg.coco.boxes import box_iou
from cis_seg.coco.suspicious import BOX_IOU
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import DUPLICATE_IOU, find_oddities
from cis_seg.inspection.report import as_text
from cis_seg.inspection.statistics import statistics

_CHECKED = (
    "every mask lies inside its image, has a pixel, and polygon parts of three points or more",
    "every person of the job has one mask or is listed under Dropped; every mask belongs to a person of the job",
    f"no two masks of an image have an IoU above {DUPLICATE_IOU}; every mask's tight box agrees with the person's box in the job",
    "ids are unique and start at 1; `bbox` is the mask's tight box, `area` the mask's own",
    "ignore regions have `iscrowd` 1 and run-length codes",
)


def data_card(path: Path, merged: Merged, job: Job, exports: Sequence[Export]) -> str:
    """The data card of the merged file in ``path``, in Markdown: its contents, the checks, and the dropped people.

    Args:
        path: the file, already written; its statistics are those that ``cis-seg check`` prints.
        merged: its source; the problems are the accepted ones.
        job: what was to be outlined.
        exports: the outlines.
    """
    contents = read_contents(path, path.parent)
    find_oddities(contents, pixels=False)
    regions = len(contents.annotations) - merged.people
    sections = [
        f"# {path.name}",
        f"{len(contents.images)} images, {merged.people} people with masks, {regions} ignore regions. "
        "Masks show the visible part of a person; the parts of one mask are pieces of one person behind an occluder.",
        _origin(merged, job, exports),
        f"## Checked{', except for the accepted problems' if merged.problems else ''}\n\n" + "\n".join(f"* {rule}" for rule in _CHECKED),
        _accepted(merged),
        _dropped(merged, job),
        "## Statistics\n\n```\n" + "\n".join(line[2:] for line in as_text(contents, statistics(contents), {}).splitlines()[1:]) + "\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _origin(merged: Merged, job: Job, exports: Sequence[Export]) -> str:
    lines = [
        f"* job: {job.path.name}, {len(job.images)} images, {len(job.person_ids())} people. {job.description}".rstrip(),
        f"* outlined in: {', '.join(export.source for export in exports)}",
    ]
    if merged.drafted:
        favoured = ": they favour a similar model" if merged.unchanged else ""
        lines.append(f"* {merged.drafted} people had a model's mask as a draft; {merged.unchanged} masks are still that draft{favoured}")
    moved, unflagged = (sum(getattr(export, name) for export in exports) for name in ("moved", "unflagged"))
    if moved:
        lines.append(f"* {moved} polygons had points up to 1 px outside the image, which were clipped")
    if unflagged:
        lines.append(f"* {unflagged} people were marked as ignore regions (`iscrowd` 1) by the tool and are people here")
    return "## Origin\n\n" + "\n".join(lines)


def _accepted(merged: Merged) -> str:
    return f"## Checked by eye and accepted\n\n```\n{problems_as_text(merged.problems)}\n```" if merged.problems else ""


def _dropped(merged: Merged, job: Job) -> str:
    if not merged.dropped:
        return "## Dropped\n\nNone."
    names = {number: job.images[image_id]["file_name"] for image_id, people in job.people.items() for number in people}
    rows = [f"| {number} | {names[number]} | {reason.replace('|', '/')} |" for number, reason in sorted(merged.dropped.items())]
    gone = f"\n\nImages omitted because all their people were dropped: {', '.join(merged.empty_images)}." if merged.empty_images else ""
    head = "## Dropped\n\nPeople of the job without a mask; a detection of one of them counts as wrong.\n\n"
    return head + "| id in the job | image | why |\n|---|---|---|\n" + "\n".join(rows) + gone


MATCHED = 0.1  # IoU of a person's box and a mask's tight box from which they may belong together: 6 of the 3453 pairs of CIS are below
SAME_MASK = 0.999  # IoU of a mask and its draft from which the mask counts as unchanged

Json = dict[str, Any]


@dataclass
class Merged:
    """The merged file, and facts for its data card."""

    content: Json
    problems: list[Problem] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)  # annotation id of the job -> why
    empty_images: list[str] = field(default_factory=list)  # omitted because all their people were dropped
    people: int = 0
    drafted: int = 0  # people who had a draft
    unchanged: int = 0  # drafts that are still the mask


def merge(job: Job, exports: Sequence[Export], dropped: Mapping[int, str]) -> Merged:
    """Assign the outlines to the people of the job; every person ends up in the file, in ``dropped`` or in a problem."""
    merged = Merged({"images": [], "annotations": [], "categories": [dict(PERSON)]}, dropped=dict(dropped))
    merged.problems += [problem for export in exports for problem in export.problems]
    for image_id in job.images:
        outlines = _outlines(job, image_id, exports, merged)
        people = {number: person for number, person in job.people[image_id].items() if number not in dropped}
        matched, left = match(people, outlines)
        _check(job, image_id, people, matched, left, merged)
        if matched or left:
            found = [matched[number] for number in people if number in matched]
            _write(job, image_id, [*found, *left], merged)
            _compare_with_draft(people, matched, merged)
        elif job.people[image_id] and not people:
            merged.empty_images.append(job.images[image_id]["file_name"])
    return merged


def match(people: Mapping[int, Json], outlines: Sequence[Outline]) -> tuple[dict[int, Outline], list[Outline]]:
    """Match people and outlines greedily by box IoU: person id -> outline, and the unmatched outlines."""
    if not people or not outlines:
        return {}, list(outlines)
    numbers = list(people)
    ious = box_iou([people[i]["bbox"] for i in numbers], [o.box for o in outlines])  # (people, outlines)
    found: dict[int, int] = {}
    for _ in range(min(ious.shape)):
        row, column = np.unravel_index(int(ious.argmax()), ious.shape)
        if ious[row, column] < MATCHED:
            break
        found[numbers[row]] = int(column)
        ious[row], ious[:, column] = -1, -1
    return {number: outlines[place] for number, place in found.items()}, [o for i, o in enumerate(outlines) if i not in found.values()]


def _outlines(job: Job, image_id: int, exports: Sequence[Export], merged: Merged) -> list[Outline]:
    """The outlines of one image, from the export that has it."""
    having = [export for export in exports if export.outlines.get(image_id)]
    for other in having[1:]:
        detail = f"outlined in {having[0].source} too"
        merged.problems.append(Problem("image_twice", other.source, job.images[image_id]["file_name"], (), detail))
    return having[0].outlines[image_id] if having else []


def _check(
    job: Job, image_id: int, people: Mapping[int, Json], matched: Mapping[int, Outline], left: Sequence[Outline], merged: Merged
) -> None:
    """Compare the outlines of one image with the job."""
    name = job.images[image_id]["file_name"]
    missing = tuple(number for number in people if number not in matched)
    if missing:
        detail = "this image has no outlines" if not matched and not left else "no outline fits the box"
        merged.problems.append(Problem("missing", job.path.name, name, missing, detail))
    gone, unlisted = match({number: job.people[image_id][number] for number in job.people[image_id] if number in merged.dropped}, left)
    for number, outline in gone.items():
        detail = f"dropped ({merged.dropped[number]}), outlined in {outline.source} as annotation {outline.export_id}"
        merged.problems.append(Problem("dropped_but_outlined", job.path.name, name, (number,), detail))
    for outline in unlisted:
        merged.problems.append(Problem("unlisted", outline.source, name, (outline.export_id,), f"box {outline.box}"))
    for number, outline in matched.items():
        iou = float(box_iou([people[number]["bbox"]], [outline.box])[0, 0])
        if iou < BOX_IOU:
            detail = f"IoU {iou:.2f} of its tight box with the box of person {number} in the job"
            merged.problems.append(Problem("box_off_mask", outline.source, name, (outline.export_id,), detail))


def _write(job: Job, image_id: int, outlines: Sequence[Outline], merged: Merged) -> None:
    """Add one image with its people and ignore regions."""
    entry, regions = job.images[image_id], [region["segmentation"] for region in job.regions[image_id].values()]
    number = len(merged.content["images"]) + 1
    merged.content["images"].append({"id": number, **{key: entry[key] for key in ("width", "height", "file_name")}})
    merged.people += len(outlines)
    masks = [(outline.segmentation, 0) for outline in outlines] + [(rle.to_json(region), 1) for region in regions]
    for segmentation, crowd in masks:
        mask = rle.from_segmentation(segmentation, job.size(image_id))
        assert mask is not None  # because outlines and regions without one were refused
        merged.content["annotations"].append(
            {
                "id": len(merged.content["annotations"]) + 1,
                "image_id": number,
                "category_id": PERSON["id"],
                "iscrowd": crowd,
                "bbox": [int(side) for side in rle.tight_box(mask)],
                "area": rle.area(mask),
                "segmentation": segmentation,
            }
        )


def _compare_with_draft(people: Mapping[int, Json], matched: Mapping[int, Outline], merged: Merged) -> None:
    for number, outline in matched.items():
        draft = people[number]["segmentation"]
        if draft is not None:
            merged.drafted += 1
            merged.unchanged += bool(rle.mask_iou([outline.mask], [draft])[0, 0] > SAME_MASK)
