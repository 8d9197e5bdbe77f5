"""Dataset of COCO instance annotations (``instances_*.json``, ``CIS.json``, ...)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cis_seg.coco.boxes import corners, inside
from cis_seg.coco.checks import has_outline, is_score
from cis_seg.coco.entries import Annotation, Needs
from cis_seg.coco.reader import CocoFile, collector_paused, read_coco, without_area, without_mask
from cis_seg.data.faults import NO_AREA, OUTSIDE, nothing_annotated, report_dropped
from cis_seg.data.records import ImageRecord, InstanceDataset, pack
from cis_seg.errors import DataError

_MOST_NAMES = 100  # COCO's 80 categories fit into a message, LVIS's 1203 do not


class CocoDataset(InstanceDataset):
    """The images of a COCO json.

    Labels count in the order of ``categories``, or of the category ids if all are taken. Crowd regions
    (``iscrowd`` 1) never train as boxes; their boxes are kept apart in ``records.ignore_boxes``. Boxes are clipped to
    the image; empty ones and those outside their image are left out and counted in the log.

    Args:
        annotations: the json file.
        images: folder that its ``file_name`` entries are relative to.
        categories: names of the categories to keep; None keeps all.
        keep_empty: keep the images without an annotation of these categories.
        load_masks: keep the segmentations too.
        optional_masks: an annotation may lack its segmentation, and one with a ``score`` from 0 to 1 is as good as that (for
            supervision=mixed); otherwise every annotation needs one, and scores are not read.
        scored: the ground truth is read from the same file, so its masks and areas are checked now.
        ignore_regions: samples carry the boxes of crowd regions as ignore regions. Not for COCO itself, whose crowd boxes can cover
            most of the image: as in the reference, locations inside that belong to no instance train as background.
        exif: ``apply`` or ``ignore`` the EXIF orientation of the photos (``read_image``).

    Raises:
        DataError: a missing file or folder, a category that does not exist, or an invalid annotation.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        categories: Sequence[str] | None = None,
        keep_empty: bool = False,
        load_masks: bool = False,
        optional_masks: bool = False,
        scored: bool = False,
        ignore_regions: bool = False,
        exif: str = "ignore",
    ) -> None:
        masks: Literal["required", "optional", "ignored"] = (
            "required" if load_masks and not optional_masks else "optional" if load_masks or scored else "ignored"
        )
        with collector_paused():
            file = read_coco(annotations, Needs(categories, masks=masks, areas=scored, folder=images))
            found = _records(file, load_masks, optional_masks)
            arealess = without_area(file)
            maskless = (len(without_mask(file)), len(file.annotations)) if scored else (0, 0)
        names, ids = tuple(file.categories.values()), tuple(file.categories)
        del file  # the packed records need a small part of its memory
        kept = [image for image in found if keep_empty or image.boxes]
        if not kept:
            remedy = "choose other categories, or set keep_empty=true" if found else "export the annotations again: the file lists no image"
            ignored = sum(len(image.ignored) for image in found)
            raise nothing_annotated(
                "no image is left to train on or to score", annotations, names[:_MOST_NAMES], len(found), ignored, remedy
            )
        records = pack(kept, with_segmentations=load_masks, with_scores=optional_masks)
        super().__init__(records, images, class_names=names, category_ids=ids, source=annotations, ignore_regions=ignore_regions, exif=exif)
        self.arealess, self.maskless = arealess, maskless


def _records(file: CocoFile, load_masks: bool, optional_masks: bool) -> list[ImageRecord]:
    """The images with their boxes, clipped; crowd regions in ``ignored``."""
    records = {number: ImageRecord(number, entry["file_name"], file.image_size(number)) for number, entry in file.images.items()}
    labels = {number: label for label, number in enumerate(file.categories)}
    dropped: Counter[str] = Counter()
    for annotation in file.annotations:
        record = records[annotation.image_id]
        whole = corners(annotation.box)
        box = None if whole is None else inside(whole, record.size)
        if box is None:
            dropped[NO_AREA if whole is None else OUTSIDE] += 1
        elif annotation.crowd:
            record.ignored.append(box)
        else:
            record.boxes.append(box)
            record.labels.append(labels[annotation.category_id])
            if load_masks:
                record.segmentations.append(json.dumps(annotation.entry.get("segmentation"), separators=(",", ":")).encode())
            if optional_masks:
                record.mask_scores.append(mask_score(annotation, file.path))
    report_dropped(file.path, dropped)
    return list(records.values())


def mask_score(annotation: Annotation, path: Path) -> float:
    """The score of an annotation's mask: 1 for a true mask, which has none, and 0 without a mask.

    Raises:
        DataError: the key ``score`` is no number from 0 to 1; ``path`` is the file, for the message.
    """
    score = annotation.entry.get("score", 1.0)
    if not is_score(score) or not 0 <= score <= 1:
        raise DataError(
            f"annotation {annotation.id} of image {annotation.image_id} has no usable score",
            where=path,
            expected="a number from 0 to 1 on a mask from a model, no key score on a true mask",
            found=f"score {score!r}"[:120],
            remedy="correct the score, or delete the key",
        )
    return float(score) if has_outline(annotation.entry.get("segmentation")) else 0.0
