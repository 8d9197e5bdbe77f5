"""labelme: every type of shape, instances of several shapes, photos and faults, and supervision's reading."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from PIL import Image

from cis_seg.coco import rle
from cis_seg.data.formats.labelme import read_labelme
from cis_seg.data.formats.reading import read_labels
from cis_seg.errors import DataError
from label_folders import HEIGHT, WIDTH, labelme_folder, photo, shape

TRIANGLE = [[10.5, 10.0], [30.5, 10.0], [10.5, 30.0]]


def png(mask: np.ndarray[Any, Any]) -> str:
    """A mask in base64 as labelme writes it."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_polygons_and_rectangles(tmp_path: Path) -> None:
    root = labelme_folder(
        tmp_path, shape("person", TRIANGLE), shape("dog", [[50, 40], [20, 5]], "rectangle"), shape("dog", TRIANGLE, kind=None)
    )
    found = read_labels(root)
    polygon, box, old = found.content["annotations"]
    assert (polygon["bbox"], polygon["segmentation"]) == ([10.5, 10, 20, 20], [[10.5, 10, 30.5, 10, 10.5, 30]])
    assert (box["bbox"], "segmentation" in box) == ([20, 5, 30, 35], False)
    assert old["segmentation"] == polygon["segmentation"]
    assert found.content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}]
    assert found.kind == "labelme"


def test_a_circle_is_a_polygon_of_its_size(tmp_path: Path) -> None:
    (circle,) = read_labelme(labelme_folder(tmp_path, shape("ball", [[40, 30], [50, 30]], "circle"))).content["annotations"]
    assert circle["bbox"] == pytest.approx([30, 20, 20, 20])
    assert circle["area"] == pytest.approx(np.pi * 100, rel=0.03)


def test_a_mask_covers_its_pixels(tmp_path: Path) -> None:
    small = np.zeros((4, 6), bool)
    small[1:, 2:5] = True
    found = read_labelme(labelme_folder(tmp_path, shape("person", [[10, 20], [15, 23]], "mask", mask=png(small))))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[20:24, 10:16] = small
    (entry,) = found.content["annotations"]
    np.testing.assert_array_equal(rle.decode(entry["segmentation"]), expected)
    assert (entry["bbox"], entry["area"]) == ([12, 21, 3, 3], 9)


def test_parts_of_a_group_are_one_instance(tmp_path: Path) -> None:
    second = [[50, 40], [60, 40], [60, 50]]
    small = png(np.ones((3, 3), bool))
    root = labelme_folder(
        tmp_path,
        shape("person", TRIANGLE, group_id=1),
        shape("person", second, group_id=1),
        shape("dog", second, group_id=1),
        shape("dog", [[1, 1], [5, 5]], "rectangle", group_id=1),
        shape("cat", TRIANGLE, group_id=2),
        shape("cat", [[70, 50], [72, 52]], "mask", mask=small, group_id=2),
    )
    person, dog, box, cat = read_labelme(root).content["annotations"]
    assert (len(person["segmentation"]), person["bbox"]) == (2, [10.5, 10, 49.5, 40])
    assert len(dog["segmentation"]) == 1
    assert "segmentation" not in box
    triangle = rle.polygon_mask([value for point in TRIANGLE for value in point], (HEIGHT, WIDTH))
    assert cat["area"] == rle.area(triangle) + 9


def test_shapes_that_are_no_instances_are_counted(tmp_path: Path) -> None:
    root = labelme_folder(
        tmp_path,
        shape("dog", [[1, 2]], "point"),
        shape("dog", [[1, 2], [3, 4]], "line"),
        shape("dog", [[1, 2], [3, 4]], "line"),
        shape("__ignore__", TRIANGLE),
        shape("dog", TRIANGLE),
    )
    found = read_labelme(root)
    assert len(found.content["annotations"]) == 1
    assert [remark.partition(" (")[0] for remark in found.remarks] == [
        "1 shapes of the type point, left out",
        "2 shapes of the type line, left out",
        "1 shapes labelled __ignore__, left out",
    ]


@pytest.mark.parametrize("named", ["a.jpg", "..\\photos\\a.jpg", "C:\\a.jpg", None])
def test_the_photo_is_found(tmp_path: Path, named: str | None) -> None:
    found = read_labelme(labelme_folder(tmp_path / "x", shape("dog", TRIANGLE), imagePath=named))
    assert [image["file_name"] for image in found.content["images"]] == ["a.jpg"]


def test_a_photo_elsewhere_a_photo_inside_the_json_and_other_files(tmp_path: Path) -> None:
    root = labelme_folder(tmp_path / "labels", shape("dog", TRIANGLE), imagePath="../photos/p.jpg")
    photo(tmp_path / "photos" / "p.jpg")
    (root / "inside.json").write_text(
        (root / "a.json").read_text().replace('"imageData": null', '"imageData": "/9j/4AAQ"').replace("p.jpg", "q.jpg")
    )
    (root / "gone.json").write_text((root / "a.json").read_text().replace("p.jpg", "r.jpg"))
    (root / "coco.json").write_text('{"images": []}')
    found = read_labels(root, images=tmp_path / "photos")
    assert [(image["file_name"]) for image in found.content["images"]] == ["p.jpg"]
    assert any(remark.startswith("1 labels whose photo is only inside the json") for remark in found.remarks)
    assert "1 labels without an image, left out (gone.json)" in found.remarks
    assert "1 json files that are not labelme's, left out (coco.json)" in found.remarks


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (shape("dog", [[1, 2], [3, 4]]), "a polygon needs 3 points"),
        (shape("dog", [[1, 2]], "rectangle"), "a rectangle needs 2 points"),
        (shape("dog", [[1, 2], [3, "4"], [5, 6]]), "a polygon needs 3 points [x, y]"),  # type: ignore[list-item]
        (shape("", TRIANGLE), "no label"),
        (shape("dog", [[1, 2], [3, 4]], "mask", mask="????"), "the mask is not a PNG in base64"),
        (shape("dog", [[1, 2], [3, 4]], "mask"), "the mask is not a PNG in base64"),
    ],
)
def test_shapes_that_cannot_be_read(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match="1 labels cannot be used") as error:
        read_labelme(labelme_folder(tmp_path, wrong))
    assert said in str(error.value)
    assert "a.json, shape 1" in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = labelme_folder(tmp_path, shape("dog", TRIANGLE), imageWidth=1000)
    (root / "cut.json").write_text('{"shapes": [')
    with pytest.raises(DataError, match="2 labels cannot be used") as error:
        read_labelme(root)
    assert "made for 1000 x 60 pixels, but the photo has 80 x 60" in str(error.value)
    assert "cut.json: not valid JSON" in str(error.value)


def test_supervision_reads_the_same_boxes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [
        shape(f"class {i % 3}", rng.uniform(0, 60, (3 if i % 2 else 2, 2)).tolist(), "polygon" if i % 2 else "rectangle") for i in range(12)
    ]
    root = labelme_folder(tmp_path, *shapes)
    found = read_labelme(root)
    theirs = supervision.DetectionDataset.from_labelme(str(root), str(root))
    detections = theirs.annotations[str(root / "a.jpg")]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in found.content["annotations"])]
    np.testing.assert_allclose(boxes, detections.xyxy, atol=2e-3)
    assert [entry["category_id"] - 1 for entry in found.content["annotations"]] == detections.class_id.tolist()
    for entry, mask in zip(found.content["annotations"], detections.mask, strict=True):
        if "segmentation" in entry:  # theirs is up to a pixel wider on every side
            ours = rle.decode(rle.from_segmentation(entry["segmentation"], (HEIGHT, WIDTH)) or rle.empty((HEIGHT, WIDTH))).astype(bool)
            assert (ours & mask).sum() >= 0.9 * ours.sum()
