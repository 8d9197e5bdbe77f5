"""YOLO labels: hand-computed boxes and polygons, what is left out and counted, what is refused, and supervision's reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision

from cis_seg.coco import rle
from cis_seg.data.formats.label_set import LabelSet
from cis_seg.data.formats.reading import read_labels
from cis_seg.data.formats.yolo import label_path, read_yolo
from cis_seg.errors import DataError
from label_folders import BOX_ROWS, HEIGHT, TRIANGLE_ROW, WIDTH, photo, yolo_folder


def first(found: LabelSet) -> list[dict[str, Any]]:
    """The annotations of the first image."""
    return [entry for entry in found.content["annotations"] if entry["image_id"] == 1]


def test_boxes_and_polygons_in_pixels(tmp_path: Path) -> None:
    found = read_yolo(yolo_folder(tmp_path, BOX_ROWS + TRIANGLE_ROW))
    dog, person, triangle = first(found)
    assert dog == {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 15, 20, 30], "area": 600, "iscrowd": 0}
    assert (person["category_id"], person["bbox"]) == (2, [0, 0, 40, 30])
    assert (triangle["bbox"], triangle["segmentation"]) == ([20, 30, 40, 30], [[20, 30, 60, 30, 40, 60]])
    assert triangle["area"] == rle.area(rle.polygon_mask([20, 30, 60, 30, 40, 60], (HEIGHT, WIDTH))) == pytest.approx(600, abs=20)
    assert found.content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}]
    names = [(image["file_name"], image["height"], image["width"], image["split"]) for image in found.content["images"]]
    assert names == [(f"{name}.jpg", 60, 80, split) for name, split in (("train/images/a", "train"), ("train/images/b", "train"))] + [
        ("valid/images/c.jpg", 60, 80, "val")
    ]
    assert found.images == tmp_path
    assert "3 images, 5 instances (1 with an outline), 0 ignore regions" in found.summary()
    assert "1 images without a label, kept as background (b.jpg)" in found.remarks


@pytest.mark.parametrize(
    ("rows", "boxes", "remark"),
    [
        (b"\xef\xbb\xbf0 0.5 0.5 0.25 0.5\r\n\r\n", [[30, 15, 20, 30]], None),
        ("0 0.5 0.5 0.25 0.5\n".encode("utf-16"), [[30, 15, 20, 30]], None),
        ("1.0 0.5 0.5 0.25 0.5", [[30, 15, 20, 30]], None),
        ("0 0.5 0.5 0.25 0.5 0.87", [[30, 15, 20, 30]], "1 rows whose last column (a score or a track) was left out (a.txt)"),
        (TRIANGLE_ROW + " 17", [[20, 30, 40, 30]], "1 rows whose last column"),
        ("0 0.9 0.5 0.4 0.5", [[56, 15, 32, 30]], "1 boxes that reach outside their image, kept (a.jpg)"),
    ],
)
def test_rows_as_programs_write_them(tmp_path: Path, rows: str | bytes, boxes: list[list[float]], remark: str | None) -> None:
    found = read_yolo(yolo_folder(tmp_path, rows))
    assert [entry["bbox"] for entry in first(found)] == boxes
    assert remark is None or any(line.startswith(remark) for line in found.remarks)


def test_keypoints_are_left_out(tmp_path: Path) -> None:
    found = read_yolo(yolo_folder(tmp_path, "0 0.5 0.5 0.25 0.5 0.1 0.1 2 0.2 0.2 1", kpt_shape=[2, 3]))
    assert [entry["bbox"] for entry in first(found)] == [[30, 15, 20, 30]]
    assert "1 rows whose keypoints were left out (a.txt)" in found.remarks


def test_four_corners_everywhere_may_be_rotated_boxes(tmp_path: Path) -> None:
    found = read_yolo(yolo_folder(tmp_path, "0 0.1 0.1 0.4 0.2 0.3 0.5 0 0.4"))
    assert any("OBB" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("2 0.5 0.5 0.25 0.5", "class 2 is not one of names (0 to 1)"),
        ("-1 0.5 0.5 0.25 0.5", "class -1 is not one of names"),
        ("0.5 0.5 0.5 0.25 0.5", "class 0.5 is not one of names"),
        ("0 320 240 100 200", "the value 320 is no fraction of the image"),
        ("0 0.5 0.5 -0.25 0.5", "negative width or height"),
        ("0 0.5 nan 0.25 0.5", "a value is not finite"),
        ("dog 0.5 0.5 0.25 0.5", "not a row of numbers"),
        ("0 0.5 0.5 0.25", "4 columns; a box has 5"),
        (b"0 0.5 0.5 0.25 0.5 \xff\xff", "not a text file in UTF-8"),
    ],
)
def test_rows_that_cannot_be_read(tmp_path: Path, rows: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match="1 labels cannot be used") as error:
        read_yolo(yolo_folder(tmp_path, rows))
    assert said in str(error.value)
    assert "a.txt" in str(error.value)


def test_all_faults_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="7 labels cannot be used") as error:
        read_yolo(yolo_folder(tmp_path, "5 0.5 0.5 0.1 0.1\n" * 7))
    assert "a.txt, line 5" in str(error.value)
    assert "and 2 more" in str(error.value)


def test_a_label_without_an_image_and_an_unreadable_image_are_counted(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    (root / "train/labels/gone.txt").write_text(BOX_ROWS)
    (root / "train/labels/notes.txt").write_text("ask about the third dog\n")
    (root / "valid/images/c.jpg").write_bytes(b"no image")
    found = read_yolo(root)
    assert "1 labels without an image, left out (gone.txt)" in found.remarks
    assert "1 images that cannot be read, left out with their labels (c.jpg)" in found.remarks
    assert len(found.content["images"]) == 2


def test_photos_that_exif_turns(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path)
    photo(root / "train/images/a.jpg", orientation=6)
    upright, stored = read_yolo(root), read_yolo(root, exif="ignore")
    assert [image["width"] for image in (upright.content["images"][0], stored.content["images"][0])] == [HEIGHT, WIDTH]
    assert first(upright)[0]["bbox"] == [22.5, 20, 15, 40]
    assert any("set exif=apply" in remark for remark in upright.remarks)


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        ({"train": "train/images", "val": "valid/images"}, None),
        ({"train": ["train/images"], "val": "valid"}, None),
        ({"train": "C:\\Users\\me\\pets\\train\\images", "valid": "valid/images", "val": None}, "read from"),
        ({"path": "D:/pets", "train": "train/images", "val": "valid/images"}, "read from"),
        ({"train": "train/images", "val": "valid/images", "test": "test/images"}, "test: test/images does not exist, left out"),
        ({"names": {"1": "person", "0": "dog"}}, "read from"),
        ({"names": {1: "person", 0: "dog"}}, "read from"),
    ],
)
def test_paths_and_names_as_people_have_them(tmp_path: Path, data: dict[str, Any], remark: str | None) -> None:
    found = read_yolo(yolo_folder(tmp_path, **data) / "data.yaml")
    assert [image["split"] for image in found.content["images"]] == ["train", "train", "val"]
    assert [category["name"] for category in found.content["categories"]] == ["dog", "person"]
    assert any(remark in line for line in found.remarks) if remark else not any("does not exist" in line for line in found.remarks)


def test_a_list_of_images(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path, train="train.txt", val="valid/images")
    (root / "train.txt").write_text(f"./train/images/a.jpg\r\n\r\n{root}/valid/images/c.jpg\n")
    found = read_yolo(root, split="train")
    assert [image["file_name"] for image in found.content["images"]] == ["train/images/a.jpg", "valid/images/c.jpg"]
    assert len(found.content["annotations"]) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: nowhere\nnames: [a]", "data.yaml names no folder of images that exists"),
        ("train: train/images", "data.yaml has no usable class names"),
        ("train: train/images\nnames: [a, a]", "data.yaml has no usable class names"),
        ('path: "C:\\Users"\nnames: [a]', "data.yaml is not valid YAML"),
        ("- a", "data.yaml is not a data.yaml"),
        ("train: train/images\nnames: [dog, person]\nkpt_shape: 17", "kpt_shape of data.yaml is not usable"),
    ],
)
def test_unusable_data_yaml(tmp_path: Path, text: str, said: str) -> None:
    path = yolo_folder(tmp_path) / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_yolo(path)


def test_a_folder_without_data_yaml(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(BOX_ROWS)
    with pytest.raises(DataError, match="the class names are missing") as error:
        read_labels(tmp_path)
    assert "--classes" in str(error.value)
    assert len(first(read_labels(tmp_path, names=["dog", "person"]))) == 2
    (tmp_path / "labels" / "classes.txt").write_text("dog\nperson\n")
    assert [category["name"] for category in read_labels(tmp_path).content["categories"]] == ["dog", "person"]
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="no label belongs to an image"):
        read_labels(tmp_path)


def test_a_split_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no split test"):
        read_yolo(yolo_folder(tmp_path), split="test")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("x/images/train/a.jpg", "x/labels/train/a.txt"),
        ("images/x/images/a.b.jpg", "images/x/labels/a.b.txt"),
        ("x/a.jpg", "x/a.txt"),
    ],
)
def test_where_labels_are(name: str, label: str) -> None:
    assert label_path(Path(name)) == Path(label)


def test_supervision_reads_the_same_boxes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = rng.uniform(0.1, 0.4, (20, 2))
    centre = rng.uniform(size / 2, 1 - size / 2)
    rows = [f"{place % 2} {x:.6f} {y:.6f} {w:.6f} {h:.6f}" for place, ((x, y), (w, h)) in enumerate(zip(centre, size, strict=True))]
    rows += [TRIANGLE_ROW]
    root = yolo_folder(tmp_path, "\n".join(rows))
    ours = first(read_yolo(root, split="train"))
    images, labels = root / "train" / "images", root / "train" / "labels"
    theirs = supervision.DetectionDataset.from_yolo(str(images), str(labels), str(root / "data.yaml"))
    found = theirs.annotations[str(images / "a.jpg")]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in ours)]
    np.testing.assert_allclose(boxes, found.xyxy, atol=2e-3)
    assert [entry["category_id"] - 1 for entry in ours] == found.class_id.tolist()
