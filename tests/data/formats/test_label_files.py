"""Masks as YOLO-seg and labelme: the pixels that come back, what a format cannot hold, and supervision's reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from hypothesis import given, settings
from hypothesis import strategies as st

from cis_seg.coco import rle
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco
from cis_seg.data.formats.labelme import read_labelme
from cis_seg.data.formats.labelme_files import write_labelme
from cis_seg.data.formats.yolo import read_yolo
from cis_seg.data.formats.yolo_files import joined, write_yolo
from cis_seg.errors import DataError
from label_folders import HEIGHT, WIDTH, photo

SIZE = (HEIGHT, WIDTH)


def pieces() -> np.ndarray[Any, Any]:
    """A ring with a hole, a piece in the hole, a piece that touches the ring at a corner, and one apart."""
    mask = np.zeros(SIZE, bool)
    mask[10:40, 10:40] = True
    mask[15:30, 15:30] = False
    mask[20:22, 20:24] = True
    mask[40:50, 40:45] = True
    mask[52:56, 5:9] = True
    return mask


def coco(*entries: dict[str, Any], **image: Any) -> CocoFile:
    """A file of one image with annotations of class ``dog`` by default."""
    annotations = [{"id": number, "image_id": 1, "category_id": 7, "iscrowd": 0, **entry} for number, entry in enumerate(entries, start=1)]
    images = [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH, **image}]
    categories = [{"id": 9, "name": "person"}, {"id": 7, "name": "dog"}]
    return check_coco(
        {"images": images, "annotations": annotations, "categories": categories}, Path("m.json"), Needs(boxes=False, masks="optional")
    )


def masked(mask: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    code = rle.encode(mask)
    return {"bbox": rle.tight_box(code), "segmentation": rle.to_json(code)} | more


def everything() -> CocoFile:
    """An instance of each kind."""
    polygon = [5.25, 5, 20, 5.5, 12, 30]
    blob = np.zeros(SIZE, bool)
    blob[5:30, 50:70] = True
    return coco(
        masked(pieces(), confidence=0.87),
        masked(blob, bbox=[45, 2, 30, 40]),
        {"bbox": [5.25, 5, 14.75, 25], "segmentation": [polygon], "category_id": 9, "score": 0.5},
        {"bbox": [1, 2, 30, 40]},
        {"bbox": [200, 2, 30, 40]},
        {"bbox": [0, 0, 50, 50], "iscrowd": 1},
    )


@given(st.binary(min_size=40, max_size=40), st.integers(4, 32))
@settings(max_examples=60, deadline=None)
def test_a_joined_polygon_fills_the_pixels_of_its_mask(noise: bytes, width: int) -> None:
    mask = np.unpackbits(np.frombuffer(noise, np.uint8))[: 320 // width * width].reshape(-1, width).repeat(2, axis=0)
    if not mask.any():
        return
    code = rle.encode(mask)
    polygon = joined(rle.rings(code))
    np.testing.assert_array_equal(rle.decode(rle.polygon_mask(polygon, mask.shape)), mask)


def test_rings_have_the_holes_and_polygons_fill_them() -> None:
    code = rle.encode(pieces())
    assert sorted(map(len, rle.rings(code))) == [8, 8, 8, 16]  # the pieces that touch at a corner are one ring
    filled = rle.merge([rle.polygon_mask(part, SIZE) for part in rle.polygons(code)])
    assert rle.area(filled) == 30 * 30 + 50 + 16


def test_yolo_holds_the_pixels_and_counts_the_rest(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    lines = write_yolo(everything(), tmp_path / "out", tmp_path / "photos")
    assert lines == [
        f"{tmp_path}/out/data.yaml: 1 images, 4 polygons",
        "data.yaml names the same images as train and val: split them before you train with it",
        "2 scores or confidences left out",
        "1 instances of several parts or with holes written as one polygon, joined by lines of no width",
        "1 boxes left out: YOLO takes the extents of the polygon instead",
        "1 instances without a mask written as the rectangle of their box",
        "1 instances left out: neither mask nor box has an area inside the image",
        "1 ignore regions left out: YOLO has none, so that people in them train as background",
    ]
    found = read_yolo(tmp_path / "out")
    assert [category["name"] for category in found.content["categories"]] == ["dog", "person"]
    several, blob, polygon, box = found.content["annotations"]
    for entry, expected in ((several, pieces()), (blob, rle.decode(everything().annotations[1].entry["segmentation"]))):
        np.testing.assert_array_equal(rle.decode(rle.from_segmentation(entry["segmentation"], SIZE) or {}), expected)
    np.testing.assert_allclose(polygon["segmentation"], [[5.25, 5, 20, 5.5, 12, 30]], atol=1e-3)
    assert polygon["category_id"] == 2
    assert box["bbox"] == pytest.approx([1, 2, 30, 40], abs=1e-3)
    assert (tmp_path / "out" / "images" / "a.jpg").is_symlink()


def test_boxes_alone_stay_boxes_inside_the_image(tmp_path: Path) -> None:
    lines = write_yolo(coco({"bbox": [-10, 15, 30, 30]}, {"bbox": [10, 10, 0, 5]}), tmp_path)
    assert (tmp_path / "labels" / "a.txt").read_text() == "0 0.125000 0.500000 0.250000 0.500000\n"
    assert lines[0].endswith("1 images, 1 boxes")
    assert any(line.startswith("no photos were linked") for line in lines)
    assert lines[-1].startswith("1 instances left out")


def test_polygons_that_leave_the_image_are_cut_and_overlapping_parts_stay_filled(tmp_path: Path) -> None:
    outside = {"bbox": [60, 10, 40, 20], "segmentation": [[60, 10, 100, 10, 100, 30, 60, 30]]}
    overlapping = {"bbox": [5, 5, 30, 30], "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25], [15, 15, 35, 15, 35, 35, 15, 35]]}
    write_yolo(coco(outside, overlapping), tmp_path)
    rows = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    values = [[float(word) for word in row.split()[1:]] for row in rows]
    assert all(0 <= value <= 1 for row in values for value in row)
    pixels = [value * (WIDTH, HEIGHT)[place % 2] for place, value in enumerate(values[1])]
    assert rle.area(rle.polygon_mask(pixels, SIZE)) == 400 + 400 - 100


def test_splits_names_and_collisions(tmp_path: Path) -> None:
    images = [("train/images/a.jpg", "train"), ("valid/images/a.jpg", "val"), ("b.jpg", "train")]
    content: dict[str, Any] = {"annotations": [], "categories": [{"id": 1, "name": "dog"}]}
    content["images"] = [
        {"id": number, "file_name": name, "height": 9, "width": 9, "split": split} for number, (name, split) in enumerate(images)
    ]
    write_yolo(check_coco(content, Path("m.json")), tmp_path)
    data = (tmp_path / "data.yaml").read_text()
    assert data == "train:\n- images\n- train/images\nval: valid/images\nnc: 1\nnames:\n- dog\n"
    labels = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt"))
    assert labels == ["labels/b.txt", "train/labels/a.txt", "valid/labels/a.txt"]
    content["images"].append({"id": 8, "file_name": "b.png", "height": 9, "width": 9})
    with pytest.raises(DataError, match="two images have one label file"):
        write_yolo(check_coco(content, Path("m.json")), tmp_path)
    with pytest.raises(DataError, match="a photo is missing"):
        write_yolo(coco({"bbox": [1, 2, 3, 4]}), tmp_path / "new", tmp_path)


def test_labelme_holds_parts_and_confidences(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    lines = write_labelme(everything(), tmp_path / "out", tmp_path / "photos")
    assert lines == [
        f"{tmp_path}/out: 1 labelme files, 6 shapes",
        "1 instances with holes, which were filled",
        "2 instances without a mask written as the rectangle of their box",
        "1 ignore regions left out: labelme has none",
    ]
    shapes = json.loads((tmp_path / "out" / "a.json").read_text())["shapes"]
    assert [(entry["shape_type"], entry["group_id"], entry["description"]) for entry in shapes] == [
        ("polygon", 1, "confidence 0.87"),
        ("polygon", 1, "confidence 0.87"),
        ("polygon", None, ""),
        ("polygon", None, "score 0.50"),
        ("rectangle", None, ""),
        ("rectangle", None, ""),
    ]
    found = read_labelme(tmp_path / "out", images=tmp_path / "photos").content["annotations"]
    filled = pieces()
    filled[15:30, 15:30] = True
    areas = [entry["area"] for entry in found]
    assert areas[:2] == [filled.sum(), 25 * 20]
    assert found[2]["segmentation"] == [[5.25, 5, 20, 5.5, 12, 30]]


def test_supervision_reads_what_is_written(tmp_path: Path) -> None:
    """One instance per row and per group, and masks up to a pixel wider than ours."""
    photo(tmp_path / "photos" / "a.jpg")
    write_yolo(everything(), tmp_path / "out", tmp_path / "photos")
    write_labelme(everything(), tmp_path / "json", tmp_path / "photos")
    out = tmp_path / "out"
    read = {
        "yolo": supervision.DetectionDataset.from_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml")),
        "labelme": supervision.DetectionDataset.from_labelme(str(tmp_path / "photos"), str(tmp_path / "json")),
    }
    for kind, dataset in read.items():
        (found,) = dataset.annotations.values()
        assert len(found) == {"yolo": 4, "labelme": 5}[kind]
        assert [dataset.classes[number] for number in found.class_id][:3] == ["dog", "dog", "person"]
        ours = pieces()
        if kind == "labelme":
            ours[15:30, 15:30] = True
        assert (found.mask[0] & ours).sum() == ours.sum()
        assert (found.mask[0] & ours).sum() > 0.8 * found.mask[0].sum()
