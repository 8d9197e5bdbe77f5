"""The people and ignore regions of CrowdHuman's ground truth, for the metrics of its benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field

from cis_seg.coco.boxes import Box

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
