"""Select images worth annotating: people who occlude each other, neither too few nor too many.

Legend: N people of an image; boxes are COCO's [x, y, width, height] in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cis_seg.coco.boxes import largest_iou
from cis_seg.coco.checks import check_box
from cis_seg.data.odgt import BOX_KEYS
from cis_seg.errors import DataError

TAKEN, QUALIFIED = "taken", "qualified"

#: reason of a verdict -> its description; all but the first are left out of the job
REASONS = {
    TAKEN: "taken",
    "not_drawn": "qualified, but not drawn: enough images were taken",
    "too_small": "too small",
    "too_few": "too few people",
    "too_many": "too many people",
    "too_many_regions": "too many ignore regions",
    "apart": "too few of the people touch another",
    "unusable_box": "invalid boxes",
    "unreadable": "corrupt image files",
    "faulty_record": "records that cannot be used",
}


@dataclass(frozen=True)
class Criteria:
    """What qualifies an image.

    The defaults are the paper's 3 to 10 people, and what holds for most images of the published test set: no side is below 400 pixels, and
    in 92 % of them the visible boxes of at least half of the people touch another at an IoU of 0.05 (at 0.1 in 82 %).
    """

    min_people: int = 3
    max_people: int = 10
    min_iou: float = 0.05  # of two people's boxes, from which they touch
    touching: float = 0.5  # minimum share of the people who touch another
    iou_boxes: str = "visible"  # the boxes of that IoU: visible parts, or full bodies (full)
    min_side: int = 400  # px, of the shorter side
    max_regions: int | None = None  # maximum of ignore regions; None allows any number

    def __str__(self) -> str:
        """A description for messages and data cards."""
        regions = "" if self.max_regions is None else f", at most {self.max_regions} ignore regions"
        return (
            f"{self.min_people} to {self.max_people} people, {self.touching:g} of them or more touching another "
            f"({self.iou_boxes} boxes' IoU {self.min_iou:g} or more), shorter side {self.min_side} px or more{regions}"
        )


@dataclass(frozen=True)
class Verdict:
    """Why one image is taken or left out; values that were not computed are None."""

    line: int | None  # of the annotation file, counted from 0 as in CIS.json
    file_name: str | None
    reason: str  # of REASONS
    why: str  # the reason with the numbers of this image
    people: int | None = None
    regions: int | None = None
    touching: float | None = None  # share of the people
    largest_iou: float | None = None


def judge(image: dict[str, Any], annotations: Sequence[dict[str, Any]], criteria: Criteria) -> Verdict:
    """Judge whether an image qualifies (``QUALIFIED``), or return the first reason against it.

    Args:
        image, annotations: from ``crowdhuman_coco.to_coco``: ignore regions have ``iscrowd`` 1, odgt entries keep their boxes.
        criteria: what to require.
    """
    people = [annotation for annotation in annotations if not annotation["iscrowd"]]
    regions, side = len(annotations) - len(people), min(image["height"], image["width"])
    verdict = Verdict(image["id"], image["file_name"], QUALIFIED, "", len(people), regions)
    for reason, against, why in (
        ("too_small", side < criteria.min_side, f"shorter side {side} px"),
        ("too_few", len(people) < criteria.min_people, f"{len(people)} people"),
        ("too_many", len(people) > criteria.max_people, f"{len(people)} people"),
        ("too_many_regions", criteria.max_regions is not None and regions > criteria.max_regions, f"{regions} ignore regions"),
    ):
        if against:
            return replace(verdict, reason=reason, why=why)
    try:
        largest = _largest_ious(people, criteria.iou_boxes)
    except DataError as error:
        return replace(verdict, reason="unusable_box", why=f"{error.problem}: {error.found}")
    touching = int((largest >= criteria.min_iou).sum())
    verdict = replace(
        verdict,
        why=f"{touching} of {len(people)} people touch another",
        touching=round(touching / len(people), 4),
        largest_iou=round(float(largest.max()), 4),
    )
    return verdict if touching >= criteria.touching * len(people) else replace(verdict, reason="apart")


def _largest_ious(people: Sequence[dict[str, Any]], kind: str) -> NDArray[np.float64]:
    """The largest box IoU of each person with another of the image -> (N,).

    Raises:
        DataError: a box is invalid.
    """
    key = BOX_KEYS[kind]
    for place, person in enumerate(people):
        check_box(person.get(key), culprit=f"{key} of person {place}", where="gtboxes")
    return largest_iou([person[key] for person in people])


def draw(verdicts: Sequence[Verdict], count: int | None, seed: int, damage: Callable[[str], str | None]) -> list[Verdict]:
    """Take a random sample of the qualified images; a larger ``count`` with the same seed extends a smaller sample.

    Args:
        verdicts: of ``judge``.
        count: maximum number of images; None takes all.
        seed: of the sample.
        damage: what is wrong with the file of an image, or None; called only for images that would be taken.

    Returns:
        The verdicts in their order; none is ``QUALIFIED`` any more.
    """
    drawn = list(verdicts)
    fit = [place for place, verdict in enumerate(verdicts) if verdict.reason == QUALIFIED]
    taken = 0
    for place in np.random.default_rng(seed).permutation(fit).tolist():
        verdict = drawn[place]
        if taken == count:
            drawn[place] = replace(verdict, reason="not_drawn")
        elif (wrong := damage(str(verdict.file_name))) is not None:
            drawn[place] = replace(verdict, reason="unreadable", why=wrong)
        else:
            drawn[place] = replace(verdict, reason=TAKEN)
            taken += 1
    return drawn
