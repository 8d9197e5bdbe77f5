"""Masks as polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cis_seg.coco import rle as outlines
from cis_seg.coco.checks import degenerate_parts
from cis_seg.coco.rle import from_segmentation, polygons, to_json

SIZE = (20, 30)


def encoded(*rectangles: tuple[int, int, int, int]) -> dict[str, Any]:
    """An RLE of filled (top, left, bottom, right)."""
    pixels = np.zeros(SIZE, dtype=np.uint8, order="F")
    for top, left, bottom, right in rectangles:
        pixels[top:bottom, left:right] = 1
    return dict(coco_mask.encode(pixels))


def iou(mask: dict[str, Any], parts: list[list[int]], size: tuple[int, int]) -> float:
    drawn = from_segmentation(parts, size)
    assert degenerate_parts(parts) == 0
    assert drawn is not None
    return float(coco_mask.iou([mask], [drawn], [0])[0, 0])


def test_a_rectangle_is_four_corners() -> None:
    (part,) = polygons(encoded((3, 5, 9, 20)))
    assert sorted(zip(part[0::2], part[1::2], strict=True)) == [(5, 3), (5, 9), (20, 3), (20, 9)]


@pytest.mark.parametrize(
    "rectangles",
    [
        [(0, 0, 20, 30)],  # all of the image: no point lies outside
        [(4, 7, 5, 8)],  # one pixel
        [(4, 7, 5, 25)],  # one row
        [(2, 9, 19, 10)],  # one column
        [(0, 0, 5, 5), (12, 20, 20, 30)],  # two pieces
    ],
)
def test_thin_pieces_survive_the_round_trip(rectangles: list[tuple[int, int, int, int]]) -> None:
    mask = encoded(*rectangles)
    parts = polygons(mask)
    assert len(parts) == len(rectangles)
    assert iou(mask, parts, SIZE) == 1
    assert all(0 <= x <= SIZE[1] and 0 <= y <= SIZE[0] for part in parts for x, y in zip(part[0::2], part[1::2], strict=True))


def test_holes_are_filled_and_an_empty_mask_has_no_outline() -> None:
    ring = np.zeros(SIZE, dtype=np.uint8, order="F")
    ring[2:18, 2:18] = 1
    ring[6:12, 6:12] = 0
    assert iou(encoded((2, 2, 18, 18)), polygons(dict(coco_mask.encode(ring))), SIZE) == 1
    assert polygons(encoded()) == []


def test_real_masks_deviate_by_at_most_a_pixel(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((shared_data / "cis" / "CIS.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    sample = content["annotations"][::60]
    masks = [(from_segmentation(a["segmentation"], sizes[a["image_id"]]) or {}, sizes[a["image_id"]]) for a in sample]
    simple = [iou(mask, polygons(mask), size) for mask, size in masks]
    assert np.median(simple) > 0.98
    points = sum(len(part) for mask, _ in masks for part in polygons(mask))
    monkeypatch.setattr(outlines, "TOLERANCE", 0.0)
    assert np.median([iou(mask, polygons(mask), size) for mask, size in masks]) > 0.999
    assert sum(len(part) for mask, _ in masks for part in polygons(mask)) > 4 * points


def test_to_json_is_json() -> None:
    mask = encoded((3, 5, 9, 20))
    assert coco_mask.area(json.loads(json.dumps(to_json(mask)))) == coco_mask.area(mask) == 6 * 15
