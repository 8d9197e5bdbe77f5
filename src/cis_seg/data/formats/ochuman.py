"""OCHuman's own json (Zhang et al., Pose2Seg, arXiv:1803.10683) as COCO json, with its MaxIoU.

Its annotations stand in the images, boxes are corners, and a mask is ``segms``: outlines (``outer``) without their holes (``inner``), or
null for a person whose mask was not drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.checks import are_coordinates, is_score, is_segmentation, is_side
from cis_seg.coco.reader import read_json
from cis_seg.errors import DataError
from cis_seg.structures import RLE

Json = dict[str, Any]
PERSON = 1
VAL_IMAGES = 2500  # the validation set: the first images with masks, by id; the test set has the others
PARTS = {"all": slice(None), "val": slice(VAL_IMAGES), "test": slice(VAL_IMAGES, None)}
_FORMAT = "OCHuman's ochuman.json: 'images' with image_id, file_name, width, height and 'annotations' of bbox, segms and max_iou"
_REMEDY = "use ochuman.json as published; its COCO files (ochuman_coco_format_*.json) need no conversion"


def ochuman_to_coco(path: Path, part: str = "all") -> Json:
    """Convert the people with masks, as the published validation and test sets do.

    Images are numbered from 1 within the part, in the order of OCHuman's ids, and ``area`` is the box's, as in the published COCO files.
    People without a mask are left out like there, so detections of them count as wrong. ``max_iou`` is kept for ``occlusion/*``.

    Args:
        path: OCHuman's json.
        part: ``val`` (the first 2,500 images with masks), ``test`` (the others) or ``all``.

    Returns:
        The content of a COCO instances json.

    Raises:
        DataError: a missing file, another format, or an invalid entry.
    """
    content = read_json(path, "OCHuman's file")
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(i, dict) and "annotations" in i for i in images):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path.name} is not OCHuman's file", where=path, expected=_FORMAT, found=found[:120], remedy=_REMEDY)
    masked = [image for image in images if any(entry.get("segms") for entry in image["annotations"])]
    result: Json = {"images": [], "annotations": [], "categories": [{"id": PERSON, "name": "person"}]}
    for number, image in enumerate(sorted(masked, key=lambda image: str(image.get("image_id")).zfill(20))[PARTS[part]], start=1):
        where = f"{path}, image {image.get('image_id')!r}"
        size = image.get("height"), image.get("width")
        if not is_side(size[0]) or not is_side(size[1]) or not isinstance(image.get("file_name"), str):
            raise DataError("an image has no usable size or file name", where=where, expected=_FORMAT, found=list(image), remedy=_REMEDY)
        result["images"].append({"id": number, "file_name": image["file_name"], "height": size[0], "width": size[1]})
        for entry in image["annotations"]:
            if entry.get("segms"):
                own = {"id": len(result["annotations"]) + 1, "image_id": number, "category_id": PERSON, "iscrowd": 0}
                result["annotations"].append(own | _shape(entry, (size[0], size[1]), where))
    return result


def _shape(entry: Json, size: tuple[int, int], where: str) -> Json:
    """Box, area, mask and MaxIoU of a person."""
    box, largest = entry.get("bbox"), entry.get("max_iou")
    if not isinstance(box, list) or len(box) != 4 or not are_coordinates(box) or box[2] < box[0] or box[3] < box[1]:
        raise DataError("a person has no usable box", where=where, expected="bbox [x0, y0, x1, y1]", found=str(box)[:80], remedy=_REMEDY)
    if not is_score(largest) or not 0 <= largest <= 1:
        raise DataError("a person has no usable max_iou", where=where, expected="0 to 1", found=largest, remedy=_REMEDY)
    x0, y0, x1, y1 = box
    mask = rle.to_json(_mask(entry["segms"], size, where))
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "segmentation": mask, "max_iou": largest}


def _mask(segms: Any, size: tuple[int, int], where: str) -> RLE:
    """The outer outlines without the inner ones; each is in one of COCO's forms, and empty if there is none."""
    expected = f"segms with outer and inner outlines for {size[0]} x {size[1]} (height x width)"
    known = isinstance(segms, dict) and (segms.get("height", size[0]), segms.get("width", size[1])) == size
    if not known or not all(is_segmentation(segms.get(side), size) for side in ("outer", "inner")):
        raise DataError("a person has no usable mask", where=where, expected=expected, found=str(segms)[:80], remedy=_REMEDY)
    outer, inner = (rle.from_segmentation(segms.get(side), size) for side in ("outer", "inner"))
    if outer is None or inner is None:
        return outer or rle.empty(size)
    return rle.encode(rle.decode(outer) & ~rle.decode(inner) & 1)
