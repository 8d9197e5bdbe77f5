"""COCO results entries: written from detections, read from any system's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import read_results, to_results
from cis_seg.errors import DataError
from cis_seg.structures import RLE, Instances

HEIGHT, WIDTH = 30, 50


def square_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[5:15, 10:30] = 1
    return mask


@pytest.fixture
def ground_truth(tmp_path: Path) -> GroundTruth:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({
        "images": [{"id": number, "height": HEIGHT, "width": WIDTH, "file_name": name} for number, name in ((4, "b.jpg"), (6, "a.jpg"))],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [],
    }))  # fmt: skip
    return GroundTruth(path, ["person"])


def read(folder: Path, truth: GroundTruth, *entries: Any) -> list[dict[str, Any]]:
    path = folder / "results.json"
    path.write_text(json.dumps(list(entries)))
    return read_results(path, truth)


def entry(**changes: Any) -> dict[str, Any]:
    changed = {"image_id": 4, "category_id": 1, "score": 0.5, "bbox": [10, 5, 20, 10]} | changes
    return {key: value for key, value in changed.items() if value != "absent"}


def test_round_trip(tmp_path: Path, ground_truth: GroundTruth) -> None:
    code = coco_mask.encode(square_mask())
    mask: RLE = {"size": code["size"], "counts": code["counts"]}
    instances = Instances(
        torch.tensor([[10.0, 5, 30, 15], [0.5, 0, 2, 4]]), torch.tensor([0.75, 0.5]), torch.tensor([0, 1]), (mask, mask), (HEIGHT, WIDTH)
    )
    results = to_results(instances, 4, category_ids=(1, 18))
    assert results[0] == {
        "image_id": 4,
        "category_id": 1,
        "bbox": [10, 5, 20, 10],
        "score": 0.75,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()},
    }
    assert results[1]["category_id"] == 18
    assert results[1]["bbox"] == [0.5, 0, 1.5, 4]
    assert read(tmp_path, ground_truth, *results) == results


def test_no_instances() -> None:
    assert to_results(Instances(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), (), (HEIGHT, WIDTH)), 4, (1,)) == []


def test_every_way_to_write_a_mask(tmp_path: Path, ground_truth: GroundTruth) -> None:
    mask = square_mask()
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(order="F"), [0]]))).tolist()
    plain = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *runs, mask.size]).tolist()}
    polygon = [[10, 5, 30, 5, 30, 15, 10, 15]]
    compressed = coco_mask.encode(mask)
    compressed = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    for segmentation in (plain, polygon, compressed):
        (result,) = read(tmp_path, ground_truth, entry(segmentation=segmentation))
        assert np.array_equal(coco_mask.decode(result["segmentation"]), mask)


def test_missing_parts(tmp_path: Path, ground_truth: GroundTruth) -> None:
    polygon = [[10, 5, 30, 5, 30, 15, 10, 15]]
    box_only, boxless = entry(segmentation=[]), entry(bbox="absent", segmentation=polygon)
    assert "segmentation" not in read(tmp_path, ground_truth, box_only)[0]
    assert read(tmp_path, ground_truth, box_only, boxless)[1]["bbox"] == [10, 5, 20, 10]
    assert "bbox" not in read(tmp_path, ground_truth, boxless)[0]  # so that areas come from masks, as in pycocotools


def test_other_categories_of_the_file_are_allowed(tmp_path: Path, ground_truth: GroundTruth) -> None:
    assert read(tmp_path, ground_truth, entry(category_id=18))[0]["category_id"] == 18


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(score="absent"), "lacks score"),
        (3, "lacks image_id, category_id, score"),
        (entry(image_id=5), "image_id 5"),
        (entry(image_id="4a"), "image_id '4a'"),
        (entry(image_id=4, file_name="c.jpg"), "file_name 'c.jpg'"),
        (entry(category_id=2), "category_id 2"),
        (entry(score=float("nan")), "finite score"),
        (entry(score=None), "finite score"),
        (entry(bbox=[1, 2, 3]), "no usable box"),
        (entry(bbox=[1, 2, -3, 4]), "negative"),
        (entry(bbox="absent"), "neither a box nor a mask"),
        (entry(segmentation={"size": [WIDTH, HEIGHT], "counts": "abc"}), r"size \[30, 50\]"),
        (entry(segmentation={"size": [HEIGHT, WIDTH]}), "no usable mask"),
        (entry(segmentation="mask.png"), "no usable mask"),
        (entry(segmentation={"size": [HEIGHT, WIDTH], "counts": "b'06'"}), r"no usable mask(.|\n)*not str\(counts\)"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, ground_truth: GroundTruth, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path, ground_truth, entry(), bad)
    assert "results.json, entry 1" in str(raised.value)


def test_results_are_matched_by_file_name(tmp_path: Path, ground_truth: GroundTruth, caplog: pytest.LogCaptureFixture) -> None:
    """``predict`` numbers the files of a folder: a number may be the id of another image."""
    caplog.set_level("INFO")
    numbered = [entry(image_id=number, file_name=name) for number, name in ((4, "a.jpg"), (99, "val/b.jpg"))]
    assert [found["image_id"] for found in read(tmp_path, ground_truth, *numbered, entry(image_id=6, file_name=None))] == [6, 4, 6]
    assert "results.json: 3 results in 2 of 2 images of truth.json, 2 matched by file name, 1 by image id" in caplog.text


def test_numbers_in_quotes_and_flat_polygons_are_read_and_counted(
    tmp_path: Path, ground_truth: GroundTruth, caplog: pytest.LogCaptureFixture
) -> None:
    polygon = [10.0, 5, 30, 5, 30, 15, 10, 15]
    quoted = entry(image_id="4", category_id="1", score="0.5", bbox=["10", 5, 20, 10.0], segmentation=polygon)
    written = entry(image_id=4.0, segmentation=[[str(value) for value in polygon]])
    assert read(tmp_path, ground_truth, quoted, written) == read(tmp_path, ground_truth, *[entry(segmentation=[polygon])] * 2)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"{tmp_path}/results.json: numbers written in quotes or as floats were read as numbers: "
        "1 bbox, 1 category_id, 2 image_id, 1 score, 1 segmentation",
        f"{tmp_path}/results.json: 1 masks written as one flat list were read as one polygon each",
    ]


def test_bad_files_are_named(tmp_path: Path, ground_truth: GroundTruth) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_results(tmp_path / "none.json", ground_truth)
    with pytest.raises(DataError, match=r"not a list(.|\n)*\['annotations', 'categories', 'images'\](.|\n)*write that list alone"):
        read_results(ground_truth.path, ground_truth)


def test_boxes_in_another_format_are_reported(tmp_path: Path, ground_truth: GroundTruth, caplog: pytest.LogCaptureFixture) -> None:
    corners = [entry(bbox=[20 + step, 10, 45, 28]) for step in range(4)]
    read(tmp_path, ground_truth, *corners)
    assert f"{tmp_path}/results.json: the boxes may be corners [x0, y0, x1, y1]" in caplog.text
    with pytest.raises(DataError, match="normalised to 0"):
        read(tmp_path, ground_truth, *[entry(bbox=[0.2, 0.1, 0.4, 0.3])] * 4)
    assert read(tmp_path, ground_truth, entry(bbox=[0, 0, 1, 1]))
