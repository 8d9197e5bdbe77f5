"""One reader of COCO json: whatever consumes a file refuses the same fault in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cis_seg.annotation.job import read_job
from cis_seg.coco.entries import Needs
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.reader import read_coco
from cis_seg.data.coco import CocoDataset
from cis_seg.errors import DataError
from cis_seg.inference.box_file import read_box_file
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities
from cis_seg.inspection.report import as_text
from cis_seg.inspection.statistics import statistics

Json = dict[str, Any]


def checked(path: Path, images: Path) -> None:
    """The data check lists faults instead of raising them."""
    (oddity,) = [o for o in read_contents(path, images).oddities if o.kind == "unusable"]
    raise DataError(oddity.detail)


CONSUMERS: dict[str, Callable[[Path, Path], object]] = {
    "training": lambda path, images: CocoDataset(path, images, load_masks=True),
    "scoring": lambda path, images: GroundTruth(path),
    "boxes": read_box_file,
    "job": lambda path, images: read_job(path),
    "check": checked,
}
EVERYONE = tuple(CONSUMERS)
WITH_MASKS, WITH_FILES, WITH_AREAS = ("training", "scoring", "job", "check"), ("training", "boxes", "job"), ("scoring", "check")


def content() -> Json:
    def box(x: int) -> Json:
        return {"bbox": [x, 3, 10, 12], "area": 120, "iscrowd": 0, "segmentation": [[x, 3, x + 10, 3, x + 10, 15, x, 15]]}

    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 24, "width": 32} for i in (7, 3)],
        "annotations": [{"id": i, "image_id": 7, "category_id": 5, **box(x)} for i, x in ((1, 2), (2, 14))],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "person"}],
    }


def written(folder: Path, changed: Json) -> tuple[Path, Path]:
    for image in (7, 3):
        Image.new("RGB", (32, 24)).save(folder / f"{image}.jpg")
    (folder / "boxes.json").write_text(json.dumps(changed))
    return folder / "boxes.json", folder


SECOND = "annotation 2 of image 7 (7.jpg)"


@pytest.mark.parametrize(
    ("key", "change", "message", "consumers"),
    [
        ("annotations", {"bbox": [20, 10, -5, 8]}, f"{SECOND} has a negative width", EVERYONE),
        ("annotations", {"bbox": [20, 10, 5, -8]}, f"{SECOND} has a negative height", EVERYONE),
        ("annotations", {"bbox": [20, float("nan"), 5, 8]}, f"{SECOND} has no usable box", EVERYONE),
        ("annotations", {"bbox": [20, 10, 5]}, f"{SECOND} has no usable box", EVERYONE),
        ("annotations", {"bbox": None, "segmentation": None}, f"{SECOND} has no usable box", EVERYONE),
        ("annotations", {"image_id": 77}, "annotation 2 belongs to an image that is not listed", EVERYONE),
        ("annotations", {"category_id": 77}, "annotation 2 belongs to a category that is not listed", EVERYONE),
        ("annotations", {"category_id": True}, "annotation 2 belongs to a category that is not listed", EVERYONE),
        ("annotations", {"category_id": None}, "annotation 2 belongs to a category that is not listed", EVERYONE),
        ("annotations", {"category_id": [5]}, "annotation 2 belongs to a category that is not listed", EVERYONE),
        ("annotations", {"id": 1}, "annotation 1 is listed twice", EVERYONE),
        ("annotations", {"id": "2a"}, "annotation '2a' has no usable id", EVERYONE),
        ("annotations", {"id": None}, "annotation None has no usable id", EVERYONE),
        ("annotations", {"category_id": "b"}, "annotation 2 belongs to a category that is not listed", EVERYONE),
        ("annotations", {"iscrowd": "no"}, "annotation 2 is neither a crowd region nor an instance", EVERYONE),
        ("annotations", {"area": -1}, f"{SECOND} has no usable area", WITH_AREAS),
        ("annotations", {"segmentation": [["a"] * 6]}, f"{SECOND} has no usable mask", WITH_MASKS),
        (
            "annotations",
            {"segmentation": {"size": [9, 9], "counts": "0"}},
            f"{SECOND} has no usable mask",
            WITH_MASKS,
        ),
        (
            "annotations",
            {"segmentation": {"size": [24, 32], "counts": [5, 5]}},
            f"{SECOND} has no usable mask",
            WITH_MASKS,
        ),
        ("images", {"id": 7}, "image 7 has no usable id or is listed twice", EVERYONE),
        ("images", {"id": "0c7e-41"}, "image '0c7e-41' has no usable id or is listed twice", EVERYONE),
        ("images", {"height": None}, "image 3 has no usable size", EVERYONE),
        ("images", {"file_name": "../gone.jpg"}, "image 3 has a file name that does not lie inside the image folder", WITH_FILES),
        ("images", {"file_name": "/tmp/gone.jpg"}, "image 3 has a file name that does not lie inside the image folder", WITH_FILES),
        ("images", {"file_name": None, "coco_url": "http://x/3.jpg"}, "image 3 has no file name", WITH_FILES),
        ("categories", {"id": 90}, "a category is listed twice or lacks its id or name", EVERYONE[:-1]),
        ("categories", {"name": "dog"}, "a category is listed twice or lacks its id or name", EVERYONE[:-1]),
        ("categories", {"name": None}, "a category is listed twice or lacks its id or name", EVERYONE[:-1]),
    ],
)
def test_same_fault_has_the_same_message_everywhere(
    tmp_path: Path, key: str, change: Json, message: str, consumers: tuple[str, ...]
) -> None:
    changed = content()
    changed[key][1] |= change
    path, images = written(tmp_path, changed)
    said = set()
    for name in consumers:
        with pytest.raises(DataError) as refused:
            CONSUMERS[name](path, images)
        assert name == "check" or f"  where: {path}\n" in str(refused.value)  # the check's list has the file as its title
        said.add(refused.value.one_line)
    (text,) = said
    assert text.startswith(f"{message}; expected: ")
    assert "; what to do: " in text
    for name in set(EVERYONE[:-1]) - set(consumers):  # what a consumer does not need is no fault for it
        if "bbox" not in change:
            CONSUMERS[name](path, images)


@pytest.mark.parametrize("name", ["../3.jpg", "..\\media\\3.JPG", "/home/user/photos/3.jpg", "C:\\photos\\3.jpg"])
def test_a_name_outside_the_image_folder_is_refused_with_the_file_inside(tmp_path: Path, name: str) -> None:
    changed = content()
    changed["images"][1]["file_name"] = name
    path, images = written(tmp_path, changed)
    for read in (CONSUMERS["training"], CONSUMERS["boxes"]):
        with pytest.raises(DataError, match=r"does not lie inside(.|\n)*'3.jpg' exists(.|\n)*write '3.jpg' in its place") as refused:
            read(path, images)
        assert repr(name) in str(refused.value)
    contents = read_contents(path, images)
    find_oddities(contents, pixels=True)
    (oddity,) = [oddity for oddity in contents.oddities if oddity.kind == "bad_file_name"]
    assert "'3.jpg' exists" in oddity.detail


@pytest.mark.parametrize(
    ("key", "entries", "left_out"),
    [
        ("categories", [{"id": 90, "name": "person"}, {"id": 5, "name": "person"}], "; 2 annotations of it are left out too"),
        ("categories", [{"id": 90, "name": "dog"}, {"id": 5}], "; 2 annotations of it are left out too"),
        ("images", [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg", "height": 24, "width": 32}], "; 2 annotations of it"),
        ("images", [{"id": "7-a", "file_name": "7.jpg", "height": 24, "width": 32}], "; 2 annotations of it are left out too"),
    ],
)
def test_the_check_lists_a_refused_entry_once_and_not_again_for_its_annotations(
    tmp_path: Path, key: str, entries: list[Json], left_out: str
) -> None:
    changed = content()
    changed[key] = entries
    for annotation in changed["annotations"]:
        annotation["image_id"] = changed["images"][0]["id"]
    (unusable,) = [o.detail for o in read_contents(*written(tmp_path, changed)).oddities if o.kind == "unusable"]
    assert left_out in unusable


def test_the_check_names_a_refused_annotation_once_in_one_line(tmp_path: Path) -> None:
    changed = content()
    changed["annotations"][1]["category_id"] = None
    text = as_text(contents := read_contents(*written(tmp_path, changed)), statistics(contents), {})
    (line,) = [line.strip() for line in text.splitlines() if "annotation 2" in line]
    assert line == (
        "annotation 2 belongs to a category that is not listed; expected: [5, 90]; found: category_id None; "
        "what to do: correct the annotation or delete it"
    )


@pytest.mark.parametrize("nested", [False, True])
def test_polygons_of_points_are_read_and_counted(tmp_path: Path, nested: bool) -> None:
    plain, changed = content(), content()
    for annotation in changed["annotations"]:
        (polygon,) = annotation["segmentation"]
        points = [polygon[start : start + 2] for start in range(0, len(polygon), 2)]
        annotation["segmentation"] = [points] if nested else points
    needs = Needs(masks="required")
    (tmp_path / "plain").mkdir()
    expected, file = (read_coco(written(folder, one)[0], needs) for folder, one in ((tmp_path / "plain", plain), (tmp_path, changed)))
    assert file.annotations == expected.annotations
    assert file.notes == [f"{len(file.annotations)} masks written as points [x, y] were read as polygons"]


def test_numbers_in_quotes_and_whole_floats_are_read_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain, changed = content(), content()
    changed["images"][0] |= {"id": 7.0, "height": "24", "width": " 32 "}
    changed["categories"][1]["id"] = "5"
    box = {"bbox": ["2", "3.0", 10, "12"], "area": "120", "iscrowd": "0", "segmentation": [["2", "3", 12, 3, 12, 15, 2, 15]]}
    changed["annotations"][0] |= {"id": "1.0", "image_id": "7", "category_id": 5.0, **box}
    changed["annotations"][1]["segmentation"] = changed["annotations"][1]["segmentation"][0]  # flat
    needs = Needs(masks="required", areas=True)
    (tmp_path / "plain").mkdir()
    expected, file = (read_coco(written(folder, one)[0], needs) for folder, one in ((tmp_path / "plain", plain), (tmp_path, changed)))
    assert (file.images, file.annotations, file.categories) == (expected.images, expected.annotations, expected.categories)
    counted = "1 area, 1 bbox, 1 category_id, 1 height, 3 id, 1 image_id, 1 iscrowd, 1 segmentation, 1 width"
    assert file.notes == [
        f"numbers written in quotes or as floats were read as numbers: {counted}",
        "1 masks written as one flat list were read as one polygon each",
    ]
    assert [record.getMessage() for record in caplog.records] == [f"{file.path}: {note}" for note in file.notes]
    assert expected.notes == []


def test_an_unused_parent_class_is_mentioned_with_the_remedy(tmp_path: Path) -> None:
    changed = content()
    changed["categories"] = [
        {"id": 90, "name": "dog", "supercategory": "dog"},
        {"id": 0, "name": "crowd-people", "supercategory": "none"},
        {"id": 5, "name": "person", "supercategory": "crowd-people"},
    ]
    path, _ = written(tmp_path, changed)
    (note,) = read_coco(path).notes
    assert "'crowd-people', the supercategory of others" in note
    assert note.endswith("leave it out with data.categories=[person,dog]")
    assert read_coco(path, Needs(["person"])).notes == []
    changed["annotations"][0]["category_id"] = 0
    assert read_coco(written(tmp_path, changed)[0]).notes == []


@pytest.mark.parametrize("wanted", ["Person", "person ", "PERSON"])
def test_nearest_name_ignores_spelling_differences(tmp_path: Path, wanted: str) -> None:
    path, _ = written(tmp_path, content())
    with pytest.raises(DataError, match=r"did you mean 'person'\?"):
        read_coco(path, Needs([wanted]))


def test_mask_replaces_a_missing_box_only_in_scoring(tmp_path: Path) -> None:
    changed = content()
    changed["annotations"][1]["bbox"] = None
    path, images = written(tmp_path, changed)
    assert GroundTruth(path).annotations[1]["bbox"] == [14, 3, 10, 12]
    for name in ("training", "boxes", "job", "check"):
        with pytest.raises(DataError, match="no usable box"):
            CONSUMERS[name](path, images)


def test_faults_are_collected_and_the_rest_is_read(tmp_path: Path) -> None:
    changed = content()
    changed["annotations"][1]["image_id"] = 77
    changed["images"].append({"id": 3})
    path, _ = written(tmp_path, changed)
    file = read_coco(path, Needs(["person"]), collect=True)
    assert [fault.error.problem.split()[0] for fault in file.faults] == ["image", "annotation"]
    assert [annotation.id for annotation in file.annotations] == [1]
    assert (file.categories, file.known_category_ids, list(file.images)) == ({5: "person"}, {5, 90}, [7, 3])
