"""Checking a data set: CIS as its data card describes it, and every kind of oddity on a made set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cis_seg.commands import check_dataset
from cis_seg.inspection.contents import KINDS, Contents, read_contents
from cis_seg.inspection.oddities import find_oddities
from cis_seg.inspection.statistics import statistics
from runs import composed


@pytest.fixture(scope="module")
def cis(shared_data: Path) -> Contents:
    contents = read_contents(shared_data / "cis" / "CIS.json", shared_data / "cis" / "Images")
    find_oddities(contents, pixels=False)
    return contents


def ids(contents: Contents, kind: str) -> list[tuple[int, ...]]:
    return [oddity.annotation_ids for oddity in contents.oddities if oddity.kind == kind]


def test_the_statistics_of_cis_are_those_of_its_data_card(cis: Contents) -> None:
    counted = statistics(cis)
    assert (counted["images"], counted["annotations"], counted["crowd_regions"]) == (459, 3453, 0)
    assert counted["categories"] == {"person": 3453}
    assert counted["top_level_keys"] == ["annotations", "categories", "images"]  # no info, no licenses
    assert (counted["instances_per_image"]["min"], counted["instances_per_image"]["max"]) == (5, 10)
    assert counted["image_width"] == {"min": 450, "median": 1024, "max": 5760}
    assert counted["image_height"] == {"min": 400, "median": 720, "max": 5152}
    assert counted["image_ids"] == [0, 4360]
    assert counted["missing_annotation_ids"] == [2327, 2519, 3326, 3351]
    assert counted["area_is_box_area"] == 3453
    assert counted["area_is_mask_area"] == 0
    assert counted["mask_sizes"] == {"small": 350, "medium": 865, "large": 2238}
    assert counted["mask_to_box"] == pytest.approx(0.45, abs=0.005)
    assert counted["mask_area"]["min"] == 13
    assert (counted["parts_per_mask"]["min"], counted["parts_per_mask"]["max"]) == (1, 10)
    assert counted["boxes_within_5_px_of_mask"] / 3453 == pytest.approx(0.44, abs=0.005)
    assert counted["boxes_beyond_20_px_of_mask"] == 452
    assert (counted["mask_pairs"], counted["mask_pairs_overlapping"]) == (11927, 73)
    assert sum(counted["crowding"].values()) == 3453
    json.dumps(counted)


def test_the_oddities_of_cis_are_those_of_its_data_card(cis: Contents) -> None:
    pairs = "13/14 59/62 207/211 649/655 755/756 1054/1055 1328/1330 2025/2028 2192/2193 2515/2521 2945/2946 3004/3005 3098/3099 3275/3276"
    assert ["/".join(map(str, pair)) for pair in ids(cis, "duplicate")] == pairs.split()
    assert ids(cis, "degenerate_part") == [(814,), (2639,), (2893,), (3020,), (3405,)]
    assert ids(cis, "id_zero") == [(0,)]
    beyond = {kind: [float(o.detail.split()[0]) for o in cis.oddities if o.kind == kind] for kind in ("box_outside", "polygon_outside")}
    assert (len(beyond["box_outside"]), max(beyond["box_outside"])) == (297, 637)
    assert (len(beyond["polygon_outside"]), max(beyond["polygon_outside"])) == (176, 9)
    assert len(ids(cis, "box_off_mask")) == 86
    assert {oddity.kind for oddity in cis.oddities} == {
        "duplicate", "degenerate_part", "id_zero", "box_outside", "polygon_outside", "box_off_mask",
    }  # fmt: skip


def outline(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def person(number: Any, box: list[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "area": 9, "iscrowd": 0, "segmentation": [outline(*box)]} | more


@pytest.fixture
def odd_root(tmp_path: Path) -> Path:
    """A COCO folder with one of everything that is odd."""
    (tmp_path / "photos").mkdir()
    for name, size in (("1.jpg", (100, 80)), ("2.jpg", (50, 40))):
        Image.new("RGB", size).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "4.jpg").write_text("no image")
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in (1, 2, 3, 4)]
        + [{"id": 1}, *({"id": i, "file_name": name, "width": 50, "height": 40} for i, name in ((5, "./2.jpg"), (6, "../2.jpg")))],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            person(0, [1, 1, 20, 30]),
            person(1, [1, 1, 20, 30], segmentation=[outline(1, 1, 20, 29)]),  # outlined twice
            person(2, [40, 10, 20, 20], segmentation=[outline(50, 20, 20, 20)]),  # box elsewhere
            person(3, [90, 70, 14, 8]),  # leaves the image
            person("4", [30, 50, 9, 9], segmentation=[outline(30, 50, 9, 9), [1, 2]]),
            person(5, [50, 50, 9, 9], segmentation=[]),
            person(6, [50, 62, 9, 9], segmentation={"size": [80, 100], "counts": [8000]}),
            person(7, [50, 62, -9, 9]),
            person(7, [50, 62, 9, 9]),
            person(8, [50, 62, 9, 9], image_id=77),
            person(9, [50, 62, 9, 9], category_id=[1]),
            person(10, [50, 62, 9, 9], segmentation=[["a"] * 6]),
            person(11, [50, 62, 9, 9], iscrowd="no"),
            person(13, [50, 62, 0, 9]),
            person(14, [120, 10, 9, 9], segmentation=[]),
            person(15, [60, 5, 9, 9], segmentation=[], attributes={"occluded": False, "rotation": 30.0}),
            person(12, [0, 0, 99, 79], iscrowd=1, segmentation={"size": [80, 100], "counts": [0, 8000]}),
        ],
    }
    (tmp_path / "odd.json").write_text(json.dumps(content))
    return tmp_path


def test_all_suspicious_entries_are_listed_and_none_stops_the_check(odd_root: Path) -> None:
    contents = read_contents(odd_root / "odd.json", odd_root / "photos")
    find_oddities(contents, pixels=True)
    assert ids(contents, "duplicate") == [(0, 1)]
    assert ids(contents, "box_off_mask") == [(2,)]
    assert ids(contents, "box_outside") == ids(contents, "polygon_outside") == [(3,)]
    assert ids(contents, "degenerate_part") == [(4,)]
    assert [o.detail for o in contents.oddities if o.kind == "whole_file"] == [
        "numbers written in quotes or as floats were read as numbers: 1 id"
    ]
    assert ids(contents, "no_mask") == [(5,), (14,), (15,)]
    assert ids(contents, "box_twice") == [(0, 1)]
    assert ids(contents, "rotated_box") == [(15,)]
    assert [o.image_id for o in contents.oddities if o.kind == "file_twice"] == [5]
    assert ids(contents, "box_without_area") == [(13,)]
    assert ids(contents, "box_off_image") == [(14,)]
    assert ids(contents, "empty_mask") == [(6,)]
    assert ids(contents, "unusable") == [(), (7,), (7,), (8,), (9,), (10,), (11,)]
    images = {
        kind: [o.image_id for o in contents.oddities if o.kind == kind] for kind in ("missing_image", "unreadable_image", "other_size")
    }
    assert [(o.image_id, o.detail) for o in contents.oddities if o.kind == "bad_file_name"] == [
        (6, "'../2.jpg'; '2.jpg' exists, which differs in the folder")
    ]
    assert images == {"missing_image": [3], "unreadable_image": [4], "other_size": [2]}
    assert {oddity.kind for oddity in contents.oddities} == set(KINDS) - {"faulty_record"}
    assert statistics(contents)["annotations"] == 10


def test_a_file_without_an_instance_is_mentioned(odd_root: Path) -> None:
    content = json.loads((odd_root / "odd.json").read_text())
    content["annotations"] = content["annotations"][-1:]  # an ignore region
    (odd_root / "odd.json").write_text(json.dumps(content))
    contents = read_contents(odd_root / "odd.json", odd_root / "photos")
    contents.oddities.clear()  # an image that cannot be used
    find_oddities(contents, pixels=False)
    assert [o.detail for o in contents.oddities] == [
        "no instance is annotated: nothing can be scored, and training needs data.keep_empty=true"
    ]


def test_the_command_writes_text_json_and_plots(odd_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["data.val_annotations=odd.json", "data.val_images=photos"]
    check_dataset.check(composed("data=coco", f"data.root={odd_root}", *files, f"output={odd_root}/out", name="check"))
    report = json.loads((odd_root / "out" / "check.json").read_text())
    assert list(report) == ["val"]  # there is no training json
    assert report["val"]["oddity_counts"]["unusable"] == 7
    duplicate = {"kind": "duplicate", "image_id": 1, "file_name": "1.jpg", "annotation_ids": [0, 1], "detail": "mask IoU 0.97"}
    assert duplicate in report["val"]["oddities"]
    text = (odd_root / "out" / "check_val.txt").read_text()
    assert "annotations 0/1 of image 1 (1.jpg): mask IoU 0.97" in text
    assert "annotations 0/1 of image 1 (1.jpg): mask IoU 0.97" in capsys.readouterr().out
    with Image.open(odd_root / "out" / "check_val.png") as page:
        assert page.width > 1000


@pytest.mark.slow  # test_cis_baselines_and_quirks scores the same baselines
def test_baselines_and_ground_truth_on_cis(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PAPER.md: filled box 2.2, ellipse 7.3, smaller ellipse 10.0, each within 0.5; the truth against itself 100."""
    overrides = ["data=cis", f"data.root={shared_data}/cis", f"output={tmp_path}", "floors=true"]
    check_dataset.check(composed(*overrides, name="check"))
    report = json.loads((tmp_path / "check.json").read_text())["val"]
    found = {name: metrics["segm/AP"] for name, metrics in report["floors"].items()}
    assert found["boxes filled in"] == pytest.approx(2.2, abs=0.5)
    assert found["ellipses in the boxes"] == pytest.approx(7.3, abs=0.5)
    assert found["ellipses of 0.9 of the boxes"] == pytest.approx(10.0, abs=0.5)
    assert found["the truth itself"] == pytest.approx(100, abs=1e-6)
    assert "459 images, 3,453 instances (the paper's text says 463" in report["known_as"]
    assert "scored as masks, the truth itself: AP 100.0" in capsys.readouterr().out
