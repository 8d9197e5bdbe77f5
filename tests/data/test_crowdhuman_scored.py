"""CrowdHuman as a scored set: its ground truth from odgt and json files, results in odgt lines, and what both refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.data.crowdhuman_truth import crowdhuman_truth
from cis_seg.data.odgt_results import is_odgt, read_odgt_results
from cis_seg.errors import DataError
from cis_seg.evaluation.crowdhuman import crowdhuman_metrics

Records = list[dict[str, Any]]
WriteOdgt = Callable[[Records], tuple[Path, Path]]


def sized(records: Records) -> Records:
    return [{**record, "width": 32, "height": 24} for record in records]


@pytest.fixture
def truth(odgt_records: Records, write_odgt: WriteOdgt) -> GroundTruth:
    """The visible boxes of three records that state the sizes of their images, whose files are gone."""
    path, images = write_odgt(sized(odgt_records))
    shutil.rmtree(images)
    return crowdhuman_truth(path, ["person"], images=images, boxes="visible")


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "found.odgt"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_people_and_regions_of_records_with_sizes_need_no_images(truth: GroundTruth) -> None:
    assert truth.crowd is not None
    assert [(image.people, image.ignored) for image in truth.crowd.images.values()] == [
        ([(-1, 3, 8, 15), (12, 5, 20, 15)], [(20, 5, 24, 9), (25, 0, 30, 5)]),
        ([(1, 1, 11, 11)], []),
        ([], []),
    ]
    assert next((a["bbox"], a["iscrowd"]) for a in truth.image_annotations(0)) == ([0, 3, 8, 12], 0)  # clipped for COCO's metrics
    assert [image["file_name"] for image in truth.images.values()] == ["27,a.jpg", "27,b.jpg", "27,c.jpg"]


def test_sizes_are_read_from_the_images_otherwise(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    truth = crowdhuman_truth(path, None, images=images, boxes="full")
    assert truth.crowd is not None
    assert truth.crowd.images[0].size == (24, 32)
    assert truth.crowd.images[0].people[0] == (-4, 2, 10, 32)
    shutil.rmtree(images)
    with pytest.raises(DataError, match=r"the size of 3 of 3 images is unknown(.|\n)*'width' and 'height'(.|\n)*data\.images"):
        crowdhuman_truth(path, None, images=images, boxes="full")


def test_heads_to_ignore_are_regions_for_heads_only(odgt_records: Records, write_odgt: WriteOdgt, tmp_path: Path) -> None:
    path, images = write_odgt(sized(odgt_records))
    people = {}
    for kind in ("visible", "full", "head"):
        crowd = crowdhuman_truth(path, None, images=images, boxes=kind).crowd
        assert crowd is not None
        people[kind] = sum(len(image.people) for image in crowd.images.values())
    assert people == {"visible": 3, "full": 3, "head": 0}


def test_a_converted_json_keeps_the_people(odgt_records: Records, write_odgt: WriteOdgt, tmp_path: Path) -> None:
    path, images = write_odgt(odgt_records)
    (tmp_path / "full.json").write_text(json.dumps(to_coco(path, images, boxes="full")[0]))
    from_json = crowdhuman_truth(tmp_path / "full.json", ["person"], images=images, boxes="full")
    assert from_json.crowd == crowdhuman_truth(path, ["person"], images=images, boxes="full").crowd
    with pytest.raises(DataError, match=r"has the full boxes of people, not the visible ones(.|\n)*data\.boxes=full"):
        crowdhuman_truth(tmp_path / "full.json", ["person"], images=images, boxes="visible")


def test_a_json_without_odgt_entries_has_no_crowd(coco_content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(coco_content))
    assert crowdhuman_truth(tmp_path / "truth.json", ["person"], images=tmp_path, boxes="visible").crowd is None


def test_a_file_without_regions_is_pointed_out(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    path, images = write_odgt(sized(odgt_records[1:]))
    crowdhuman_truth(path, None, images=images, boxes="visible")
    assert "no entry is an ignore region" in caplog.text


def test_unusable_records_are_refused(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt([*sized(odgt_records), {"ID": "27,d"}])
    with pytest.raises(DataError, match=r"1 of 4 records to score cannot be used(.|\n)*line 4"):
        crowdhuman_truth(path, None, images=images, boxes="visible")
    del odgt_records[1]["gtboxes"][0]["hbox"]
    path, images = write_odgt(sized(odgt_records))
    with pytest.raises(DataError, match=r"has no hbox(.|\n)*data\.boxes=visible"):
        crowdhuman_truth(path, None, images=images, boxes="head")


def test_odgt_results(truth: GroundTruth, tmp_path: Path) -> None:
    boxes = [{"box": [12, 5, 8, 10], "score": "0.9", "tag": 1}, {"vbox": [0, 0, 5, 5], "fbox": [0, 0, 9, 9], "score": 0.5}]
    path = written(tmp_path, {"ID": "27,b", "dtboxes": []}, {"ID": "27,a", "dtboxes": boxes, "height": 24})
    assert is_odgt(path)
    assert read_odgt_results(path, truth, "visible") == [
        {"image_id": 0, "category_id": 1, "bbox": [12, 5, 8, 10], "score": 0.9},
        {"image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5},
    ]
    assert read_odgt_results(path, truth, "full")[1]["bbox"] == [0, 0, 9, 9]
    assert truth.crowd is not None
    metrics = crowdhuman_metrics(truth.crowd, read_odgt_results(path, truth, "visible"))
    assert metrics["crowdhuman/JI/visible"] == pytest.approx(100 * (1 / 2 + 0) / 2, abs=1e-3)  # one of two people; none of one


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"ID": "28,x", "dtboxes": []}, r"for an image that the data set does not have(.|\n)*for example '27,a'(.|\n)*'28,x'"),
        ({"ID": "27,a", "boxes": []}, r"a line has no dtboxes(.|\n)*ID, boxes"),
        ({"ID": "27,a", "dtboxes": [{"fbox": [1, 1, 4, 4], "score": 1}]}, r"full boxes, not visible ones(.|\n)*data\.boxes=full"),
        ({"ID": "27,a", "dtboxes": [{"box": [1, 1, 4], "score": 1}]}, "no usable box"),
        ({"ID": "27,a", "dtboxes": [{"box": [1, 1, 4, 4]}]}, "no finite score"),
        ({"ID": "27,a", "dtboxes": [{"box": [1, 1, 4, 4], "score": 1, "tag": "mask"}]}, "not of a person"),
        ({"ID": "27,a", "dtboxes": [[1, 1, 4, 4]]}, "not an object"),
        ({"ID": "27,c", "dtboxes": []}, "two lines"),
    ],
)
def test_unusable_odgt_results(truth: GroundTruth, tmp_path: Path, line: dict[str, Any], message: str) -> None:
    path = written(tmp_path, {"ID": "27,c", "dtboxes": []}, line)
    with pytest.raises(DataError, match=message):
        read_odgt_results(path, truth, "visible")


def test_files_that_are_no_odgt_results(truth: GroundTruth, tmp_path: Path) -> None:
    for name, text in {"a.json": '[{"image_id": 1}]', "b.json": '{"images": []}', "c.json": '{\n"ID": 1}', "d.json": ""}.items():
        (tmp_path / name).write_text(text)
        assert not is_odgt(tmp_path / name)
    (tmp_path / "lines.json").write_text('\n{"ID": "27,a", "dtboxes": []}\n')
    assert is_odgt(tmp_path / "lines.json")
    for text, message in {"": "has no lines", "{": "not valid JSON"}.items():
        (tmp_path / "found.odgt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_odgt_results(tmp_path / "found.odgt", truth, "visible")
