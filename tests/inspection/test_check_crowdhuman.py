"""Checking CrowdHuman's own form: people, regions, records that are left out."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from cis_seg import check_dataset
from runs import composed


def test_records_that_are_left_out_are_listed(tmp_path: Path) -> None:
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
