"""Checking CrowdHuman's own form: people, regions, records that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cis_seg.commands import check_dataset
from cis_seg.data.crowdhuman import CrowdHumanDataset
from runs import composed


def test_boxes_that_the_reader_leaves_out_are_listed_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [[1, 2, 8, 9], [3, 3, 0, 9], [40, 2, 8, 9], [5, 5, 4, 0], [-9, 2, 9, 9]]
    entries = [{"tag": "person", "vbox": box, "fbox": box, "hbox": box} for box in boxes]
    entries += [{"tag": "mask", "vbox": [2, 30, 4, 4], "extra": {"ignore": 1}}]
    broken = [{"tag": "person", "vbox": [1, 1, 0, 1]}, {"tag": "person", "vbox": None}]  # a record that is left out as a whole
    records = [{"ID": "273,a", "gtboxes": entries}, {"ID": "273,b", "gtboxes": broken}]
    (tmp_path / "Images").mkdir()
    for name in ("273,a", "273,b"):
        Image.new("RGB", (32, 24)).save(tmp_path / "Images" / f"{name}.jpg")
    (tmp_path / "annotation_train.odgt").write_text("\n".join(map(json.dumps, records)))
    check_dataset.check(composed("data=crowdhuman", f"data.root={tmp_path}", f"output={tmp_path}/out", name="check"))
    report = json.loads((tmp_path / "out" / "check.json").read_text())["train"]
    assert report["oddity_counts"] == {"faulty_record": 1, "box_without_area": 2, "box_off_image": 3}
    listed = [(o["kind"], o["image_id"], o["file_name"], o["detail"]) for o in report["oddities"] if o["kind"] != "faulty_record"]
    assert listed == [
        ("box_without_area", 0, "273,a.jpg", "vbox of entry 1 (person): [3, 3, 0, 9]"),
        ("box_off_image", 0, "273,a.jpg", "vbox of entry 2 (person): [40, 2, 8, 9]"),
        ("box_without_area", 0, "273,a.jpg", "vbox of entry 3 (person): [5, 5, 4, 0]"),
        ("box_off_image", 0, "273,a.jpg", "vbox of entry 4 (person): [-9, 2, 9, 9]"),
        ("box_off_image", 0, "273,a.jpg", "vbox of entry 5 (ignore region): [2, 30, 4, 4]"),
    ]
    dataset = CrowdHumanDataset(tmp_path / "annotation_train.odgt", tmp_path / "Images", max_faulty=1)
    assert len(dataset.records.boxes) == report["statistics"]["annotations"] == 1
    assert "2 boxes without width or height" in capsys.readouterr().out


def test_skipped_records_are_listed(tmp_path: Path) -> None:
    person = {"tag": "person", "vbox": [-1, 2, 8, 9], "fbox": [1, 2, 8, 20], "hbox": [2, 2, 3, 3], "extra": {"box_id": 0}, "head_attr": {}}
    region = {"tag": "mask", "vbox": [20, 2, 8, 9], "fbox": [20, 2, 8, 9], "hbox": [20, 2, 8, 9], "extra": {"ignore": 1}, "head_attr": {}}
    records = [{"ID": name, "gtboxes": [person, region]} for name in ("273,a", "273,b")]
    (tmp_path / "Images").mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / "Images" / "273,a.jpg")
    (tmp_path / "annotation_val.odgt").write_text("\n".join([*map(json.dumps, records), "{"]))
    overrides = ["data=crowdhuman", f"data.root={tmp_path}", "data.annotations=annotation_val.odgt", f"output={tmp_path}/out"]
    check_dataset.check(composed(*overrides, name="check"))
    report = json.loads((tmp_path / "out" / "check.json").read_text())["train"]
    assert report["statistics"]["images"] == 1
    assert (report["statistics"]["annotations"], report["statistics"]["crowd_regions"]) == (2, 1)
    details = [oddity["detail"] for oddity in report["oddities"] if oddity["kind"] == "faulty_record"]
    assert len(details) == 2
    assert [oddity["detail"] for oddity in report["oddities"] if oddity["kind"] == "box_outside"] == ["1 px"]
    assert any("unusable lines" in detail and "line 3" in detail for detail in details)
    assert any("273,b.jpg is missing" in detail for detail in details)
