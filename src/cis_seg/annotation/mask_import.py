"""Masks of another model for the boxes of a COCO json, matched by annotation id or by box.

Legend: N annotations and K results of one image; boxes are COCO's [x, y, width, height] in pixels of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cis_seg.coco import rle
from cis_seg.coco.boxes import box_iou
from cis_seg.coco.checks import has_outline, is_id
from cis_seg.coco.entries import Annotation
from cis_seg.coco.reader import CocoFile
from cis_seg.errors import DataError
from cis_seg.structures import RLE

MIN_IOU = 0.5  # of a result's box and an annotation's, below which they do not belong together
MOST_SURE = 0.99  # highest score of an imported mask, because a score of 1 means a true mask
HIGHEST = 1.1  # an estimated IoU can exceed 1 a little; anything larger is a percentage

Json = dict[str, Any]


@dataclass
class Imported:
    """The annotations with their masks, and how well these agree with the boxes and with the true masks."""

    annotations: list[Json] = field(default_factory=list)  # all of the file, in its order
    by_id: int = 0  # masks matched by annotation id
    by_box: int = 0
    unused: int = 0  # results that belong to no annotation, or not as well as another one
    true: int = 0  # true masks of the file, which are kept
    boxes_alone: int = 0  # instances that no mask was found for
    scores: list[float] = field(default_factory=list)  # of the imported masks
    box_ious: list[float] = field(default_factory=list)  # of each imported mask's tight box and the annotation's box
    outside: list[float] = field(default_factory=list)  # share of each imported mask outside the box
    overlaps: list[float] = field(default_factory=list)  # IoU of each pair of imported masks whose boxes overlap
    true_ious: list[float] = field(default_factory=list)  # of each result that matches an instance with a true mask
    true_scores: list[float] = field(default_factory=list)  # of these results


def import_masks(file: CocoFile, results: Sequence[Json], source: Path, *, min_iou: float = MIN_IOU) -> Imported:
    """Give the instances of ``file`` without a mask the masks of ``results``, with their scores.

    A result with an ``annotation_id`` belongs to that annotation. Any other belongs to an annotation of its image with whose box its own
    has an IoU of at least ``min_iou``, the best pairs first, and each result to one annotation. If several results name one annotation,
    the one with the best score counts. Categories are not compared. True masks are kept.

    Args:
        file: boxes, and maybe some true masks; checked.
        results: as ``read_results`` or ``masks_of`` returns them; those without a mask are not used.
        source: their file, for messages.
        min_iou: lowest IoU of two boxes that belong together.

    Raises:
        DataError: an ``annotation_id`` that does not exist, of another image or of an ignore region; or a score above 1.1.
    """
    people = {a.id: a for a in file.annotations if not a.crowd}
    masked = [result for result in results if has_outline(result.get("segmentation"))]
    chosen = _by_id(people, masked, source)
    imported = Imported(by_id=len(chosen))
    chosen |= _by_box(people, chosen, masked, min_iou)
    imported.by_box, imported.unused = len(chosen) - imported.by_id, len(results) - len(chosen)
    masks: dict[int, list[tuple[Annotation, RLE]]] = defaultdict(list)
    for annotation in file.annotations:
        entry, result = dict(annotation.entry), chosen.get(annotation.id)
        mask = None if result is None else rle.from_segmentation(result["segmentation"], file.image_size(annotation.image_id))
        if has_outline(entry.get("segmentation")) and not annotation.crowd:
            _compare(annotation, mask, result, file, imported)
        elif mask is not None and result is not None and rle.area(mask):
            entry |= {"segmentation": rle.to_json(mask), "area": rle.area(mask), "score": _score(result, source)}
            imported.scores.append(entry["score"])
            masks[annotation.image_id].append((annotation, mask))
        elif not annotation.crowd:
            imported.boxes_alone += 1
        imported.annotations.append(entry)
    for image_id, found in masks.items():
        _agreement(found, file.image_size(image_id), imported)
    return imported


def masks_of(file: CocoFile) -> list[Json]:
    """Return the masks of a COCO json with the ids of a boxes' json, such as the output of ``cis-seg masks``, in the form of results.

    The score is the annotation's ``score`` or ``confidence``, without both 1.
    """
    return [
        {"image_id": a.image_id, "annotation_id": a.id, "bbox": a.box, "segmentation": a.entry.get("segmentation"),
         "score": a.entry.get("score", a.entry.get("confidence", 1.0))}
        for a in file.annotations
        if not a.crowd
    ]  # fmt: skip


def _score(result: Json, source: Path) -> float:
    score = float(result["score"])
    if not 0 <= score <= HIGHEST:
        raise DataError(
            "the score of a mask is out of range", where=source, expected="0 to 1", found=score, remedy="divide percentages by 100"
        )
    return round(min(score, MOST_SURE), 4)


def _by_id(people: Mapping[int, Annotation], results: Sequence[Json], source: Path) -> dict[int, Json]:
    """Annotation id -> the best result that names it."""
    chosen: dict[int, Json] = {}
    for result in results:
        if "annotation_id" not in result:
            continue
        number = result["annotation_id"]
        if not is_id(number) or number not in people or people[number].image_id != result["image_id"]:
            raise DataError(
                "a result names an annotation that its image does not have",
                where=source,
                expected="the id of an instance, not of an ignore region",
                found=f"annotation_id {number!r} in image {result['image_id']}",
                remedy="use the json that the masks were made for, or remove annotation_id to match by box",
            )
        if number not in chosen or result["score"] > chosen[number]["score"]:
            chosen[number] = result
    return chosen


def _by_box(people: Mapping[int, Annotation], taken: Mapping[int, Json], results: Sequence[Json], min_iou: float) -> dict[int, Json]:
    """Annotation id -> the result whose box fits, for annotations that no result names."""
    free, unnamed, chosen = defaultdict(list), defaultdict(list), dict[int, Json]()
    for annotation in people.values():
        if annotation.id not in taken:
            free[annotation.image_id].append(annotation)
    for result in results:
        if "annotation_id" not in result:
            unnamed[result["image_id"]].append(result)
    for image_id, found in unnamed.items():
        boxes = [result["bbox"] if "bbox" in result else rle.tight_box(result["segmentation"]) for result in found]
        ious = box_iou([a.box for a in free[image_id]], boxes)  # (N, K)
        while ious.size and ious.max() >= min_iou:
            n, k = np.unravel_index(ious.argmax(), ious.shape)
            chosen[free[image_id][n].id] = found[k]
            ious[n], ious[:, k] = 0, 0
    return chosen


def _compare(annotation: Annotation, mask: RLE | None, result: Json | None, file: CocoFile, imported: Imported) -> None:
    """Count a true mask, and compare it with the mask of the matching result."""
    imported.true += 1
    if mask is not None and result is not None:
        true = rle.from_segmentation(annotation.entry["segmentation"], file.image_size(annotation.image_id))
        assert true is not None
        imported.true_ious.append(float(rle.mask_iou([mask], [true])[0, 0]))
        imported.true_scores.append(float(result["score"]))


def _agreement(found: Sequence[tuple[Annotation, RLE]], size: tuple[int, int], imported: Imported) -> None:
    """Compare the imported masks of one image with their boxes and with each other."""
    for annotation, mask in found:
        imported.box_ious.append(float(box_iou([annotation.box], [rle.tight_box(mask)])[0, 0]))
        kept = rle.merge([mask, rle.box_mask(annotation.box, size)], intersect=True)
        imported.outside.append(1 - rle.area(kept) / rle.area(mask))
    masks, boxes = [mask for _, mask in found], [annotation.box for annotation, _ in found]
    touching, ious = box_iou(boxes, boxes), rle.mask_iou(masks, masks)
    imported.overlaps += [float(ious[i, j]) for i, j in combinations(range(len(found)), 2) if touching[i, j] > 0]


def as_text(imported: Imported) -> str:
    """What was imported and how it agrees, line by line."""
    found = imported.by_id + imported.by_box
    lines = [
        f"{found} results matched ({imported.by_id} by annotation id, {imported.by_box} by box), {imported.unused} not used",
        f"{len(imported.scores)} masks imported, {imported.true} true masks kept, {imported.boxes_alone} instances with a box alone",
    ]
    if imported.scores:
        low = sum(iou < MIN_IOU for iou in imported.box_ious)
        lines.append(f"scores {min(imported.scores):.2f} to {max(imported.scores):.2f}, median {np.median(imported.scores):.2f}")
        lines.append(f"IoU of box and mask's tight box: median {np.median(imported.box_ious):.2f}, below {MIN_IOU:g} for {low}")
        lines.append(f"share of a mask outside its box: mean {np.mean(imported.outside):.3f}")
    if imported.overlaps:
        lines.append(f"IoU of masks whose boxes overlap: mean {np.mean(imported.overlaps):.3f} over {len(imported.overlaps)} pairs")
    if imported.true_ious:
        scores = f"their scores say {np.mean(imported.true_scores):.2f}"
        lines.append(f"compared with {len(imported.true_ious)} true masks: mean IoU {np.mean(imported.true_ious):.2f}; {scores}")
    return "\n".join(lines)
