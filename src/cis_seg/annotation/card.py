"""The data card of a merged test set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cis_seg.annotation.exports import Export
from cis_seg.annotation.job import Job
from cis_seg.annotation.merging import Merged
from cis_seg.annotation.rules import as_text as problems_as_text
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import DUPLICATE_IOU, find_oddities
from cis_seg.inspection.report import as_text
from cis_seg.inspection.statistics import statistics

_CHECKED = (
    "every mask lies inside its image, has a pixel, and polygon parts of three points or more",
    "every person of the job has one mask, or stands under Dropped; every mask is a person's of the job",
    f"no two masks of an image have an IoU above {DUPLICATE_IOU}; every mask's tight box agrees with the person's box in the job",
    "ids are unique and count from 1; `bbox` is the mask's tight box, `area` the mask's own",
    "regions to ignore are crowd regions (`iscrowd` 1) with run-length codes",
)


def data_card(path: Path, merged: Merged, job: Job, exports: Sequence[Export]) -> str:
    """Markdown about the merged file in ``path``: what is in it, what was checked, who is not in it.

    Args:
        path: the file, written already: its statistics are those that ``scripts/check_dataset.py`` prints.
        merged: what it was written from; its problems are those that somebody accepted.
        job: what was to be outlined.
        exports: what came back.
    """
    contents = read_contents(path, path.parent)
    find_oddities(contents, pixels=False)
    regions = len(contents.annotations) - merged.people
    sections = [
        f"# {path.name}",
        f"{len(contents.images)} images, {merged.people} people with masks, {regions} regions to ignore. "
        "Masks show what is seen of a person; the parts of one mask are pieces of one person behind somebody or something.",
        _origin(merged, job, exports),
        f"## Checked{', but for what was accepted' if merged.problems else ''}\n\n" + "\n".join(f"* {rule}" for rule in _CHECKED),
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
        favoured = ": a model like it is scored too well on those" if merged.unchanged else ""
        lines.append(f"* {merged.drafted} people had a model's mask to start from; {merged.unchanged} masks are still that draft{favoured}")
    moved, unflagged = (sum(getattr(export, name) for export in exports) for name in ("moved", "unflagged"))
    if moved:
        lines.append(f"* {moved} polygons had points up to 1 px outside the image, which were moved to its edge")
    if unflagged:
        lines.append(f"* {unflagged} people were marked as crowd regions by the tool, and are people here")
    return "## Where it comes from\n\n" + "\n".join(lines)


def _accepted(merged: Merged) -> str:
    return f"## Looked at and accepted\n\n```\n{problems_as_text(merged.problems)}\n```" if merged.problems else ""


def _dropped(merged: Merged, job: Job) -> str:
    if not merged.dropped:
        return "## Dropped\n\nNobody."
    names = {number: job.images[image_id]["file_name"] for image_id, people in job.people.items() for number in people}
    rows = [f"| {number} | {names[number]} | {reason.replace('|', '/')} |" for number, reason in sorted(merged.dropped.items())]
    gone = f"\n\nNobody is left in, and so left out: {', '.join(merged.empty_images)}." if merged.empty_images else ""
    head = "## Dropped\n\nPeople of the job without a mask; a detection of one of them counts as wrong.\n\n"
    return head + "| id in the job | image | why |\n|---|---|---|\n" + "\n".join(rows) + gone
