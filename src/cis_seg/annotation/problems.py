"""Problems of outlines: their kinds, and which of them may be accepted. Imports no library, so that the help of the commands is fast."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cis_seg.errors import ConfigError

#: kind of problem -> its heading
KINDS = {
    "unusable": "entries that cannot be used",
    "unknown_image": "images that are not of this job",
    "other_size": "images of a different size than the job's: outlined on resized copies?",
    "image_twice": "images that are outlined more than once",
    "other_category": "annotations of another category than person",
    "box_without_area": "boxes without width or height",
    "no_mask": "annotations without a mask",
    "empty_mask": "masks without a pixel",
    "degenerate_part": "annotations with polygon parts of fewer than three points",
    "polygon_outside": "polygons that leave their image",
    "missing": "people of the job who are neither outlined nor dropped",
    "dropped_but_outlined": "people who are both dropped and outlined",
    "duplicate": "pairs of masks that nearly coincide: one person outlined twice?",
    "box_off_mask": "masks that disagree with their box: of another person?",
    "unlisted": "outlines of people who are not in the job",
}
#: kinds that may be correct and can be accepted after a look; with the others no evaluation would read the file correctly
ACCEPTABLE = ("duplicate", "box_off_mask", "unlisted")


@dataclass(frozen=True)
class Problem:
    """One problem to fix or accept."""

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
        # because JSON can hold lone surrogates, and a text file cannot
        return " ".join(text.split()).encode(errors="backslashreplace").decode()


def check_accepted(kinds: Iterable[str]) -> None:
    """Check the kinds of problem to accept.

    Raises:
        ConfigError: a kind that is not in ``ACCEPTABLE``.
    """
    for kind in kinds:
        if kind not in ACCEPTABLE:
            raise ConfigError("this kind of problem cannot be accepted", where="--accept", expected=" or ".join(ACCEPTABLE), found=kind)


def refused(problems: Iterable[Problem], accepted: Collection[str]) -> list[Problem]:
    """The problems that are not accepted."""
    return [problem for problem in problems if problem.kind not in accepted]


def as_text(problems: Sequence[Problem], most: int | None = None) -> str:
    """The problems by kind, at most ``most`` of each."""
    lines = []
    for kind, meaning in KINDS.items():
        found = [problem for problem in problems if problem.kind == kind]
        if found:
            lines += [f"{len(found)} {meaning} ({kind}):", *(f"  {problem}" for problem in found[:most])]
        if most is not None and len(found) > most:
            lines.append(f"  and {len(found) - most} more")
    return "\n".join(lines)
