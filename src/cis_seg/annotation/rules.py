"""What is asked of outlines before they become a test set, and a list of what does not keep to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cis_seg.errors import ConfigError

#: kind of problem -> what it says about those listed under it
KINDS = {
    "unusable": "entries that cannot be used",
    "unknown_image": "images that are not of this job",
    "other_size": "images of another size than the job's: outlined on resized copies?",
    "image_twice": "images that are outlined in more than one place",
    "other_category": "annotations of another category than person",
    "box_without_area": "boxes without width or height",
    "no_mask": "annotations without a mask",
    "empty_mask": "masks without a pixel",
    "degenerate_part": "annotations with polygon parts of fewer than three points",
    "polygon_outside": "polygons that leave their image",
    "missing": "people of the job who are neither outlined nor dropped",
    "dropped_but_outlined": "people who are dropped and outlined as well",
    "duplicate": "pairs of masks that nearly coincide: one person outlined twice?",
    "box_off_mask": "masks that disagree with their box: of somebody else?",
    "unlisted": "outlines of nobody in the job",
}
#: kinds that may be right after all, once somebody has looked; the others make a file that no evaluation reads rightly
ACCEPTABLE = ("duplicate", "box_off_mask", "unlisted")


@dataclass(frozen=True)
class Problem:
    """One thing to mend, or to accept."""

    kind: str  # of KINDS
    source: str  # name of the export, or of the job
    file_name: str | None  # of the image
    ids: tuple[int, ...]  # of annotations in ``source``
    detail: str

    def __str__(self) -> str:
        """``a.json, annotations 13/14 of 273271,a.jpg: mask IoU 0.93``"""
        numbers = f"annotation{'s' if len(self.ids) > 1 else ''} {'/'.join(map(str, self.ids))}" if self.ids else None
        subject = " of ".join(part for part in (numbers, self.file_name) if part)
        text = f"{self.source}{f', {subject}' if subject else ''}: {self.detail}"
        # because JSON can hold half of a UTF-16 pair, and a list of one line each cannot
        return " ".join(text.split()).encode(errors="backslashreplace").decode()


def check_accepted(kinds: Iterable[str]) -> None:
    """Refuses to accept what cannot be right.

    Raises:
        ConfigError: a kind that is none of ``ACCEPTABLE``.
    """
    for kind in kinds:
        if kind not in ACCEPTABLE:
            raise ConfigError("this cannot be accepted", where="--accept", expected=" or ".join(ACCEPTABLE), found=kind)


def refused(problems: Iterable[Problem], accepted: Collection[str]) -> list[Problem]:
    """Those that nobody has accepted."""
    return [problem for problem in problems if problem.kind not in accepted]


def as_text(problems: Sequence[Problem], most: int | None = None) -> str:
    """The problems by kind, of each at most ``most``."""
    lines = []
    for kind, meaning in KINDS.items():
        found = [problem for problem in problems if problem.kind == kind]
        if found:
            lines += [f"{len(found)} {meaning} ({kind}):", *(f"  {problem}" for problem in found[:most])]
        if most is not None and len(found) > most:
            lines.append(f"  and {len(found) - most} more")
    return "\n".join(lines)
