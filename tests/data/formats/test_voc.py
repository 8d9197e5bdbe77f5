"""Pascal VOC: pixels counted from 1 or from 0, difficult objects, photos by their names, faults, and supervision's reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import supervision

from cis_seg.data.formats.reading import read_labels
from cis_seg.data.formats.voc import read_voc
from cis_seg.errors import DataError
from label_folders import photo, voc_folder, voc_object


def test_pixels_count_from_one_and_boxes_include_the_last(tmp_path: Path) -> None:
    polygon = "<polygon><x1>11</x1><y1>11</y1><x2>31</x2><y2>11</y2><x3>31</x3><y3>31</y3></polygon>"
    objects = voc_object("person", 1, 1, 1, 1) + voc_object("dog", 11, 11, 31.5, 31, extra=polygon + "<truncated>1</truncated>")
    found = read_labels(voc_folder(tmp_path, objects))
    pixel, dog = found.content["annotations"]
    assert (pixel["bbox"], "segmentation" in pixel) == ([0, 0, 1, 1], False)
    assert (dog["bbox"], dog["segmentation"]) == ([10, 10, 21.5, 21], [[10, 10, 30, 10, 30, 30]])
    assert [category["name"] for category in found.content["categories"]] == ["dog", "person"]
    assert found.kind == "VOC"
    assert found.images == tmp_path / "JPEGImages"


def test_a_box_at_zero_means_that_the_tool_counted_from_zero(tmp_path: Path) -> None:
    found = read_voc(voc_folder(tmp_path, voc_object("dog", 0, 5, 10, 20) + voc_object("dog", 7, 5, 10, 20)))
    assert [entry["bbox"] for entry in found.content["annotations"]] == [[0, 5, 10, 15], [7, 5, 3, 15]]
    assert any("begin at pixel 0" in remark for remark in found.remarks)


def test_difficult_objects_are_ignore_regions_unless_asked(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, voc_object("dog", 5, 5, 10, 20) + voc_object("dog", 1, 5, 10, 20, extra="<difficult>1</difficult>"))
    found = read_voc(root)
    assert [entry["iscrowd"] for entry in found.content["annotations"]] == [0, 1]
    assert any(remark.startswith("1 difficult objects, read as ignore regions") for remark in found.remarks)
    assert [entry["iscrowd"] for entry in read_voc(root, difficult=True).content["annotations"]] == [0, 0]


@pytest.mark.parametrize("name", ["a.jpg", "C:\\photos\\a.jpg", "renamed.jpg", "", "a"])
def test_the_photo_is_found_by_either_name(tmp_path: Path, name: str) -> None:
    root = voc_folder(tmp_path, voc_object("dog", 5, 5, 10, 20), name=name)
    photo(root / "JPEGImages" / "later.jpg")
    found = read_voc(root)
    assert [image["file_name"] for image in found.content["images"]] == ["a.jpg"]
    assert "1 images without a label file, left out: not labelled yet? (later.jpg)" in found.remarks


def test_of_two_photos_of_one_name_the_nearer_one_is_meant(tmp_path: Path) -> None:
    for part in ("one", "two"):
        voc_folder(tmp_path / part, voc_object(part, 5, 5, 10, 20))
    found = read_voc(tmp_path)
    assert [image["file_name"] for image in found.content["images"]] == ["one/JPEGImages/a.jpg", "two/JPEGImages/a.jpg"]


def test_a_split_lists_its_images(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, voc_object("dog", 5, 5, 10, 20))
    (root / "Annotations" / "b.xml").write_text("broken")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("a 1\n")
    assert len(read_labels(root, split="val").content["images"]) == 1
    with pytest.raises(DataError, match="there is no split test"):
        read_voc(root, split="test")


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ("<object>", "not valid XML"),
        ("</annotation><!-- -->", "not valid XML"),
        ("<object><name>dog</name></object>", "object 1: without a name or a box of four numbers"),
        (voc_object("", 5, 5, 10, 20), "object 1: without a name or a box"),
        (voc_object("dog", 5, 5, float("nan"), 20), "object 1: without a name or a box"),
        (voc_object("dog", 50, 5, 10, 20), "ends before it begins"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, objects: str, said: str) -> None:
    with pytest.raises(DataError, match="1 labels cannot be used") as error:
        read_voc(voc_folder(tmp_path, objects))
    assert said in str(error.value)
    assert "a.xml" in str(error.value)


def test_entities_and_other_xml_are_refused(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, "")
    (root / "Annotations" / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    (root / "Annotations" / "b.xml").write_text("<html></html>")
    with pytest.raises(DataError, match="2 labels cannot be used") as error:
        read_voc(root)
    assert "defines XML entities" in str(error.value)
    assert "not a VOC label: <html>" in str(error.value)


def test_labels_of_another_size_are_refused_with_exif_as_the_reason(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, voc_object("dog", 5, 5, 10, 20))
    photo(root / "JPEGImages" / "a.jpg", orientation=8)
    with pytest.raises(DataError) as error:
        read_voc(root)
    assert "made for 80 x 60 pixels, but the photo has 60 x 80; it fits the photo read with --exif ignore" in str(error.value)
    assert read_voc(root, exif="ignore").content["images"][0]["width"] == 80
    photo(root / "JPEGImages" / "a.jpg", size=(40, 30))
    with pytest.raises(DataError, match="made for 80 x 60 pixels, but the photo has 40 x 30\n"):
        read_voc(root)


def test_supervision_reads_the_same_boxes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(2, 30, (12, 2))
    objects = "".join(voc_object("dog" if x % 2 else "person", x, y, x + 20, y + 25) for x, y in corners.tolist())
    root = voc_folder(tmp_path, objects)
    found = read_voc(root)
    theirs = supervision.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    detections = theirs.annotations[str(root / "JPEGImages" / "a.jpg")]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in found.content["annotations"])]
    np.testing.assert_allclose(boxes, detections.xyxy)
    names = {category["id"]: category["name"] for category in found.content["categories"]}
    assert [names[entry["category_id"]] for entry in found.content["annotations"]] == [theirs.classes[i] for i in detections.class_id]
