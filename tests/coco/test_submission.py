"""Packing for COCO's server: the zip's name and content, and what is refused before it is uploaded."""

from __future__ import annotations

import json
import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cis_seg.coco.submission import pack, read_image_list
from cis_seg.errors import ConfigError, DataError

HEIGHT, WIDTH = 30, 50
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "submit_testdev.py"
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 15.0, 10.0, 15.0]

main = runpy.run_path(str(SCRIPT))["main"]


def code() -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[5:15, 10:30] = 1
    encoded = coco_mask.encode(mask)
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode("ascii")}


def entry(**changes: Any) -> dict[str, Any]:
    changed = {"image_id": 4, "category_id": 18, "score": 0.5, "segmentation": code()} | changes
    return {key: value for key, value in changed.items() if value != "absent"}


@pytest.fixture
def info(tmp_path: Path) -> Path:
    """The form of image_info_test-dev2017.json."""
    images = [{"id": i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i:012}.jpg"} for i in (4, 9, 11)]
    categories = [{"supercategory": "person", "id": 1, "name": "person"}, {"supercategory": "animal", "id": 18, "name": "dog"}]
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"info": {}, "images": images, "licenses": [], "categories": categories}))
    return path


def written(folder: Path, *entries: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(list(entries)))
    return path


def content(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name == path.with_suffix(".json").name, "one JSON with the zip's name, in no folder"
        entries: list[dict[str, Any]] = json.loads(archive.read(name))
    return entries


def test_the_zip(info: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = written(
        tmp_path, entry(bbox=[10, 5, 20, 10], file_name="000000000004.jpg", score=0.123456789), entry(image_id=9, category_id=1, score=1)
    )
    assert main([str(results), str(info), "--name", "boxinst-overlap", "--output", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "detections_test-dev2017_boxinst-overlap_results.zip"
    assert content(path) == [
        {"image_id": 4, "category_id": 18, "segmentation": code(), "score": 0.123457},
        {"image_id": 9, "category_id": 1, "segmentation": code(), "score": 1.0},
    ]
    printed = capsys.readouterr().out
    assert "2 results in 2 of 3 images, 2 categories" in printed
    assert str(path) in printed
    assert "warning: test-dev2017 has 20288 images, this list 3" in printed


def test_pycocotools_scores_it(info: Path, tmp_path: Path) -> None:
    """As the server does: with its own ground truth, where areas are those of the masks."""
    submission = pack(written(tmp_path, entry(bbox=[0, 0, 1, 1])), info, name="a", output=tmp_path)
    truth = COCO()
    truth.dataset = json.loads(info.read_text()) | {
        "annotations": [
            {"id": 1, "image_id": 4, "category_id": 18, "segmentation": [SQUARE], "bbox": [10, 5, 20, 10], "area": 200, "iscrowd": 0}
        ]
    }
    truth.createIndex()
    (tmp_path / "unpacked.json").write_text(json.dumps(content(submission.path)))
    detections = truth.loadRes(str(tmp_path / "unpacked.json"))
    assert detections.dataset["annotations"][0]["area"] == 200
    evaluator = COCOeval(truth, detections, "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert evaluator.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], {"size": [HEIGHT, WIDTH], "counts": [305, *[10, 20] * 19, 10, 615]}], ids=["polygons", "plain"]
)
def test_any_form_of_a_mask_becomes_a_compressed_code(info: Path, tmp_path: Path, segmentation: Any) -> None:
    submission = pack(written(tmp_path, entry(segmentation=segmentation)), info, name="a", output=tmp_path)
    assert content(submission.path)[0]["segmentation"] == code()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 5}, "image that the data set does not have"),
        ({"category_id": 2}, "category that the data set does not have"),
        ({"segmentation": {**code(), "size": [WIDTH, HEIGHT]}}, r"no usable mask(.|\n)*\[30, 50\]"),
        ({"segmentation": "absent", "bbox": [0, 0, 5, 5]}, "has no mask"),
        ({"segmentation": {**code(), "counts": f"b'{code()['counts']}'"}}, r"no usable mask(.|\n)*not str"),
        ({"segmentation": {**code(), "counts": ""}}, r"no usable mask(.|\n)*not str"),
        ({"score": 1.5}, "not a probability"),
        ({"score": -0.1}, "not a probability"),
        ({"score": float("nan")}, "no finite score"),
        ({"score": "absent"}, "lacks score"),
    ],
)
def test_results_that_the_server_would_reject(info: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        pack(written(tmp_path, entry(), entry(**changes)), info, name="a", output=tmp_path / "out")
    assert "entry 1" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_at_most_100_results_per_image(info: Path, tmp_path: Path) -> None:
    hundred = [entry(category_id=1 if i % 2 else 18) for i in range(100)]
    assert pack(written(tmp_path, *hundred), info, name="a", output=tmp_path).num_results == 100
    with pytest.raises(DataError, match=r"too many results(.|\n)*image 4(.|\n)*found: 101"):
        pack(written(tmp_path, *hundred, entry()), info, name="a", output=tmp_path)


def test_nothing_to_submit(info: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no result to submit"):
        pack(written(tmp_path), info, name="a", output=tmp_path)


@pytest.mark.parametrize("name", ["", "my alg", "a/b", "../a", "-a"])
def test_a_name_is_part_of_a_file_name(info: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        pack(written(tmp_path, entry()), info, name=name, output=tmp_path)


def test_the_list_of_images_has_no_ground_truth(info: Path, tmp_path: Path) -> None:
    assert read_image_list(info).image_size(4) == (HEIGHT, WIDTH)
    listed = json.loads(info.read_text())
    for changed, message in (
        (listed | {"annotations": [{"id": 1, "image_id": 4, "category_id": 18, "bbox": [1, 1, 2, 2]}]}, "has a ground truth"),
        ({"images": []}, r"not a COCO instances file(.|\n)*categories"),
        ([], r"not a COCO instances file(.|\n)*images, annotations, categories"),
        (listed | {"images": [{"id": 4}]}, "image 4 has no usable size"),
    ):
        info.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=message):
            read_image_list(info)


def test_user_error_exits_with_2(info: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing.json"), str(info), "--name", "a", "--output", str(tmp_path / "out")]) == 2
    assert "error: the results file does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
