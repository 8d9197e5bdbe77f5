"""Reading CrowdHuman's ``.odgt``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cis_seg.data.crowdhuman import CrowdHumanDataset
from cis_seg.errors import ConfigError, DataError

Records = list[dict[str, Any]]
WriteOdgt = Callable[[Records], tuple[Path, Path]]


def test_visible_boxes_are_clipped_and_ignored_ones_stay_out(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records))
    assert (len(data), data.image_ids, data.class_names, data.category_ids) == (2, [0, 1], ("person",), (1,))
    sample = data.sample(0)
    assert sample.path.name == "27,a.jpg"
    np.testing.assert_array_equal(sample.boxes, [[0, 3, 8, 15], [12, 5, 20, 15]])
    assert sample.boxes.dtype == np.float32
    assert sample.labels.tolist() == [0, 0]
    assert sample.masks is None
    np.testing.assert_array_equal(data.records.ignore_boxes, [[20, 5, 24, 9], [25, 0, 30, 5]])
    assert data.records.ignore_starts.tolist() == [0, 2, 2]


def test_full_boxes_by_option(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records), boxes="full")
    np.testing.assert_array_equal(data.sample(0).boxes, [[0, 2, 10, 24], [12, 5, 20, 20]])


def test_records_without_people_are_kept_on_demand(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    data = CrowdHumanDataset(*write_odgt(odgt_records), keep_empty=True)
    assert data.image_ids == [0, 1, 2]
    assert data.sample(2).boxes.shape == (0, 4)


def test_a_box_that_lies_outside_is_dropped_when_the_image_is_read(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    odgt_records[1]["gtboxes"][0]["vbox"] = [100, 1, 10, 10]
    assert CrowdHumanDataset(*write_odgt(odgt_records)).sample(1).boxes.shape == (0, 4)


def test_empty_boxes_are_counted(odgt_records: Records, write_odgt: WriteOdgt, caplog: pytest.LogCaptureFixture) -> None:
    odgt_records[0]["gtboxes"][0]["vbox"] = [3, 3, 0, 5]
    with caplog.at_level(logging.WARNING, logger="cis_seg"):
        data = CrowdHumanDataset(*write_odgt(odgt_records))
    assert len(data.sample(0).boxes) == 1
    assert "1 boxes without width or height" in caplog.text


@pytest.mark.parametrize(("name", "records", "people", "ignored"), [("sample", 5, 41, 2), ("truncated", 2, None, None)])
def test_real_records(
    shared_data: Path, tmp_path: Path, write_photo: Callable[..., Path], name: str, records: int, people: int | None, ignored: int | None
) -> None:
    source = shared_data / f"crowdhuman_odgt/annotation_{name}.odgt"
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    size = max(max(x + w, y + h) for line in lines for x, y, w, h in (box["vbox"] for box in line["gtboxes"]))  # nobody is outside
    for line in lines:
        write_photo(tmp_path / f"{line['ID']}.jpg", height=size, width=size)
    data = CrowdHumanDataset(source, tmp_path)
    assert len(data) == records
    persons = [[box for box in line["gtboxes"] if box["tag"] == "person"] for line in lines]
    assert people is None or sum(map(len, persons)) == people == len(data.records.boxes)
    assert ignored is None or len(data.records.ignore_boxes) == ignored
    for index, boxes in enumerate(persons):
        visible = np.array([box["vbox"] for box in boxes])
        expected = np.concatenate([visible[:, :2], visible[:, :2] + visible[:, 2:]], axis=1).clip(0, size)
        np.testing.assert_array_equal(data.sample(index).boxes, expected)


def _entry(**change: Any) -> Callable[[Records], None]:
    return lambda records: records[1]["gtboxes"][0].update(change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_entry(vbox=[1, 1, -4, 10]), ["vbox of entry 0 of image '27,b'", "negative width"]),
        (_entry(vbox=None), ["vbox of entry 0 of image '27,b'", "four finite numbers"]),
        (lambda records: records[1].pop("gtboxes"), ["record has no boxes"]),
        (lambda records: records[1].update(gtboxes=[3]), ["record has no boxes"]),
        (lambda records: records[1].update(ID="../b"), ["'../b.jpg'", "inside the image folder"]),
        (lambda records: records[1].update(ID=None), ["image None", "inside the image folder"]),
        (lambda records: records[1].update(ID="27,a"), ["27,a.jpg is listed twice"]),
    ],
)
def test_nonsense_is_refused_with_its_line(
    odgt_records: Records, write_odgt: WriteOdgt, damage: Callable[[Records], None], words: list[str]
) -> None:
    damage(odgt_records)
    path, images = write_odgt(odgt_records)
    with pytest.raises(DataError) as refused:
        CrowdHumanDataset(path, images)
    for word in [*words, f"{path}, line 2"]:
        assert word in str(refused.value)


def test_files_that_are_missing_or_damaged(odgt_records: Records, write_odgt: WriteOdgt) -> None:
    path, images = write_odgt(odgt_records)
    with pytest.raises(DataError, match=r"no annotation file[\s\S]*annotation_train.odgt"):
        CrowdHumanDataset(path.with_name("x.odgt"), images)
    with pytest.raises(DataError, match="no image folder"):
        CrowdHumanDataset(path, images.with_name("Bilder"))
    with pytest.raises(ConfigError, match="visible or full"):
        CrowdHumanDataset(path, images, boxes="head")  # type: ignore[arg-type]
    path.write_text(path.read_text()[:-8])
    with pytest.raises(DataError, match=r"not valid JSON[\s\S]*line 3[\s\S]*column"):
        CrowdHumanDataset(path, images)
    path.write_text(json.dumps(odgt_records[2]))
    with pytest.raises(DataError, match="no image is left"):
        CrowdHumanDataset(path, images)
