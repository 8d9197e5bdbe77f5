"""CrowdHuman as COCO json and back: the function, the script, and what scoring makes of the ignore regions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.commands.to_coco import crowdhuman_to_coco
from cis_seg.data.coco import CocoDataset
from cis_seg.data.crowdhuman_coco import to_coco, to_odgt
from cis_seg.errors import DataError
from cis_seg.evaluation.metrics import score

Records = list[dict[str, Any]]
WriteOdgt = Callable[[Records], tuple[Path, Path]]


def test_people_become_annotations_and_regions_crowds(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    content, faults = to_coco(*write_odgt(odgt_records))
    assert content["images"][0] == {"id": 0, "file_name": "27,a.jpg", "height": 24, "width": 32}
    assert [image["id"] for image in content["images"]] == [0, 1, 2]  # images of nobody stay
    boxes = [(a["id"], a["image_id"], a["bbox"], a["area"], a["iscrowd"]) for a in content["annotations"]]
    assert boxes == [
        (1, 0, [0, 3, 8, 12], 96, 0),  # cut at the left
        (2, 0, [12, 5, 8, 10], 80, 0),
        (3, 0, [20, 5, 4, 4], 16, 1),  # a person to ignore
        (4, 0, [25, 0, 5, 5], 25, 1),  # a mask
        (5, 1, [1, 1, 10, 10], 100, 0),
    ]
    assert faults.listed == []


def test_full_boxes(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    content, _ = to_coco(*write_odgt(odgt_records), boxes="full")
    assert content["annotations"][0]["bbox"] == [0, 2, 10, 22]


@pytest.mark.parametrize("name", ["sample", "truncated"])
def test_real_records_round_trip(shared_data: Path, tmp_path: Path, write_photo: Callable[..., Path], name: str) -> None:
    source = shared_data / f"crowdhuman_odgt/annotation_{name}.odgt"
    records = [json.loads(line) for line in source.read_text().splitlines()]
    for record in records:
        size = max(max(x + w, y + h) for x, y, w, h in (entry["vbox"] for entry in record["gtboxes"]))  # nobody is outside
        write_photo(tmp_path / "images" / f"{record['ID']}.jpg", height=size, width=size)
    content, _ = to_coco(source, tmp_path / "images")
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert to_odgt(tmp_path / "coco.json") == records
    assert len(CocoDataset(tmp_path / "coco.json", tmp_path / "images")) == len(records)


def test_detections_in_ignore_regions_are_not_false_positives(odgt_records: Records, write_odgt: WriteOdgt, tmp_path: Path) -> None:
    content, _ = to_coco(*write_odgt(odgt_records))
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = GroundTruth(tmp_path / "truth.json")
    found = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.5} for a in content["annotations"] if not a["iscrowd"]
    ]
    in_region, elsewhere = [25, 1, 4, 3], [22, 16, 6, 6]
    extra = {"image_id": 0, "category_id": 1, "score": 0.9}
    assert score(truth, [*found, {**extra, "bbox": in_region}]).metrics["bbox/AP"] == pytest.approx(100)
    assert (score(truth, [*found, {**extra, "bbox": elsewhere}]).metrics["bbox/AP"] or 0) < 90


def test_the_script_converts_both_ways(
    odgt_records: Records, write_odgt: WriteOdgt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, images = write_odgt(odgt_records)
    target, back = tmp_path / "new" / "val.json", tmp_path / "back.odgt"
    assert crowdhuman_to_coco([str(path), str(images), str(target)]) == 0
    assert "3 images, 3 people, 2 ignore regions, 0 records left out" in capsys.readouterr().out
    assert json.loads(target.read_text())["categories"] == [{"id": 1, "name": "person"}]
    assert crowdhuman_to_coco([str(target), str(back)]) == 0
    assert [json.loads(line) for line in back.read_text().splitlines()] == odgt_records


def test_the_scripts_mistakes(odgt_records: Records, write_odgt: WriteOdgt, tmp_path: Path, capsys: Any) -> None:
    path, images = write_odgt(odgt_records)
    assert crowdhuman_to_coco([str(path), str(tmp_path / "none"), str(tmp_path / "out.json")]) == 2
    assert "image folder does not exist" in capsys.readouterr().err
    assert crowdhuman_to_coco([str(tmp_path / "none.odgt"), str(images), str(tmp_path / "out.json")]) == 2
    assert "annotation file does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        crowdhuman_to_coco([str(path), str(tmp_path / "out.json")])


def test_another_json_has_no_records(coco_content: Any, write_coco: Any) -> None:
    path, _ = write_coco(coco_content)
    with pytest.raises(DataError, match=r"annotation 1 has no odgt entry[\s\S]*cis-seg crowdhuman"):
        to_odgt(path)
