"""Where two sources of masks for the same boxes disagree, and one file of both.

Legend: boxes are COCO's [x, y, width, height] in pixels of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.entries import Annotation
from cis_seg.coco.reader import CocoFile
from cis_seg.data.coco import mask_score
from cis_seg.errors import DataError
from cis_seg.structures import RLE

Json = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """The masks of one instance in both files."""

    first: Annotation
    second: Annotation
    masks: tuple[RLE | None, RLE | None]
    scores: tuple[float, float]  # 1 a true mask, 0 no mask
    iou: float  # 0 if one has no mask

    def entry(self) -> Json:
        """One line of the list: ids, IoU and scores."""
        return {"annotation_id": self.first.id, "image_id": self.first.image_id, "iou": round(self.iou, 4), "scores": list(self.scores)}


def pairs(first: CocoFile, second: CocoFile) -> list[Pair]:
    """Return the instances of both files that have a mask in at least one, the lowest IoU first, then by annotation id.

    Raises:
        DataError: an instance of the first file is not in the second one, or has another image there.
    """
    others = {a.id: a for a in second.annotations}
    found = []
    for annotation in first.annotations:
        if annotation.crowd:
            continue
        other = others.get(annotation.id)
        if other is None or other.image_id != annotation.image_id:
            raise DataError(
                f"annotation {annotation.id} of image {annotation.image_id} is not in the other file",
                where=second.path,
                expected=f"the annotation ids and images of {first.path}",
                found="no such id" if other is None else f"image {other.image_id}",
                remedy="give both files masks for the same boxes: cis-seg import, cis-seg masks",
            )
        pair = _pair(annotation, other, first, second)
        if any(mask is not None for mask in pair.masks):
            found.append(pair)
    return sorted(found, key=lambda pair: (pair.iou, pair.first.id))


def _pair(annotation: Annotation, other: Annotation, first: CocoFile, second: CocoFile) -> Pair:
    size = first.image_size(annotation.image_id)
    one, two = (rle.from_segmentation(a.entry.get("segmentation"), size) for a in (annotation, other))
    iou = 0.0 if one is None or two is None else float(rle.mask_iou([one], [two])[0, 0])
    return Pair(annotation, other, (one, two), (mask_score(annotation, first.path), mask_score(other, second.path)), iou)


def merged(first: CocoFile, found: Sequence[Pair]) -> list[Json]:
    """Return the annotations of ``first``, each with the mask of the higher score; a tie goes to the first file.

    Pixels that several masks of an image claim belong to the one with the highest score, so that no two masks share a pixel.
    """
    chosen = {pair.first.id: int(pair.scores[1] > pair.scores[0]) for pair in found}
    images: dict[int, list[Pair]] = defaultdict(list)
    for pair in found:
        images[pair.first.image_id].append(pair)
    masks: dict[int, RLE] = {}
    for own in images.values():
        best = sorted(own, key=lambda pair: (-max(pair.scores), pair.first.id))
        masks |= _exclusive([(pair.first.id, mask) for pair in best if (mask := pair.masks[chosen[pair.first.id]]) is not None])
    scores = {pair.first.id: max(pair.scores) for pair in found}
    return [_entry(annotation, masks.get(annotation.id), scores.get(annotation.id, 0.0)) for annotation in first.annotations]


def _exclusive(masks: Sequence[tuple[int, RLE]]) -> dict[int, RLE]:
    """Annotation id -> mask without the pixels of the masks before it."""
    claimed, kept = None, {}
    for number, mask in masks:
        pixels = rle.decode(mask).astype(bool)
        kept[number] = mask if claimed is None else rle.encode(pixels & ~claimed)
        claimed = pixels if claimed is None else claimed | pixels
    return kept


def _entry(annotation: Annotation, mask: RLE | None, score: float) -> Json:
    if annotation.crowd:
        return dict(annotation.entry)
    entry = {key: value for key, value in annotation.entry.items() if key not in ("segmentation", "score")}
    if mask is None or not rle.area(mask):
        return entry
    return entry | {"segmentation": rle.to_json(mask), "area": rle.area(mask)} | ({} if score == 1 else {"score": score})
