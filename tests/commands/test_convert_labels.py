"""``cis-seg convert`` for labels through its ``main``: the chain of formats with its counts, results files, refusals, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO

from adelaidet_file import small_config, small_state
from cis_seg.coco import rle
from cis_seg.commands.convert import convert_adelaidet, main
from label_folders import BOX_ROWS, TRIANGLE_ROW, labelme_folder, shape, voc_folder, voc_object, yolo_folder

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]


def counts(path: Path) -> tuple[int, int, int]:
    """Images, annotations, and those with a mask."""
    content = json.loads(path.read_text())
    return len(content["images"]), len(content["annotations"]), sum("segmentation" in entry for entry in content["annotations"])


def results(path: Path, **changes: Any) -> Path:
    """A results file of two detections."""
    mask = rle.to_json(rle.box_mask([10, 10, 20, 30], (60, 80)))
    entry = {
        "image_id": 1,
        "file_name": "train/images/a.jpg",
        "category_id": 1,
        "bbox": [10, 10, 20, 30],
        "score": 0.9,
        "segmentation": mask,
    }
    path.write_text(json.dumps([entry | changes, entry | changes | {"score": 0.1}]))
    return path


def test_labels_go_through_all_formats_and_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yolo_folder(tmp_path / "pets", BOX_ROWS + TRIANGLE_ROW)
    assert main([f"{tmp_path}/pets", f"{tmp_path}/pets.json"]) == 0
    said = capsys.readouterr().out
    assert "3 images, 5 instances (1 with an outline), 0 ignore regions" in said
    assert f"its file names are relative to {tmp_path}/pets" in said
    assert counts(tmp_path / "pets.json") == (3, 5, 1)
    assert len(COCO(str(tmp_path / "pets.json")).anns) == 5
    assert main([f"{tmp_path}/pets.json", f"{tmp_path}/seg", "--to", "yolo", "--images", f"{tmp_path}/pets"]) == 0
    assert "4 instances without a mask written as the rectangle of their box" in capsys.readouterr().out
    assert main([f"{tmp_path}/seg/data.yaml", f"{tmp_path}/seg.json"]) == 0
    assert counts(tmp_path / "seg.json") == (3, 5, 5)
    assert main([f"{tmp_path}/seg", f"{tmp_path}/json", "--to", "labelme"]) == 0
    assert main([f"{tmp_path}/json", f"{tmp_path}/again.json", "--images", f"{tmp_path}/seg"]) == 0
    assert counts(tmp_path / "again.json") == (3, 5, 5)
    before, after = (json.loads((tmp_path / name).read_text())["annotations"] for name in ("seg.json", "again.json"))
    assert [entry["area"] for entry in before] == [entry["area"] for entry in after]


def test_one_split_and_class_names(tmp_path: Path) -> None:
    yolo_folder(tmp_path / "pets")
    assert main([f"{tmp_path}/pets", f"{tmp_path}/val.json", "--split", "val", "--classes", "cat,man"]) == 0
    content = json.loads((tmp_path / "val.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["c.jpg"]
    assert [category["name"] for category in content["categories"]] == ["cat", "man"]


def test_voc_and_labelme_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_folder(tmp_path / "voc", voc_object("dog", 5, 5, 10, 20))
    labelme_folder(tmp_path / "labelme", shape("dog", SQUARE))
    for kind in ("voc", "labelme"):
        assert main([f"{tmp_path}/{kind}", f"{tmp_path}/{kind}.json"]) == 0
        assert counts(tmp_path / f"{kind}.json")[:2] == (1, 1)
    labelme_folder(tmp_path / "voc", shape("dog", SQUARE))
    capsys.readouterr()
    assert main([f"{tmp_path}/voc", f"{tmp_path}/x.json"]) == 2
    assert "the folder has labels of several formats" in capsys.readouterr().err
    assert main([f"{tmp_path}/voc", f"{tmp_path}/x.json", "--from", "labelme"]) == 0


def test_results_become_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yolo_folder(tmp_path / "pets")
    assert main([f"{tmp_path}/pets", f"{tmp_path}/pets.json"]) == 0
    found = results(tmp_path / "found.json")
    assert (
        main([str(found), f"{tmp_path}/out", "--to", "yolo", "--annotations", f"{tmp_path}/pets.json", "--images", f"{tmp_path}/pets"]) == 0
    )
    said = capsys.readouterr().out
    assert "1 of 2 detections are scored 0.3 or more" in said
    assert "out/data.yaml: 3 images, 1 polygons" in said
    assert main([str(found), f"{tmp_path}/json", "--to", "labelme", "--classes", "dog", "--score-threshold", "0.05"]) == 0
    assert "1 labelme files, 2 shapes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "x.json"], "there is no such file or folder"),
        (["nowhere.yaml", "x.json"], "there are no such labels"),
        (["nowhere.json", "x", "--to", "yolo"], "the annotation file does not exist"),
        (["pets", "x"], "COCO json is one file"),
        (["pets", "pets"], "COCO json is one file"),
        (["pets", "pets", "--to", "yolo"], "the output must be a new folder"),
        (["pets", "x.json", "--images", "pets"], "--images has no effect on yolo labels"),
        (["pets", "x.json", "--keep-difficult"], "--keep-difficult has no effect on yolo labels"),
        (["pets", "x.json", "--annotations", "a.json"], "--annotations has no effect on this kind of input"),
        (["found.json", "x"], "a json can be converted to YOLO and labelme"),
        (["found.json", "x", "--to", "yolo"], "the class names of the results are not known"),
        (["bare.json", "x", "--to", "yolo", "--classes", "dog"], "the results do not say which image"),
        (["found.json", "x", "--to", "yolo", "--split", "val"], "--split has no effect on this kind of input"),
        (["found.json", "x", "--to", "yolo", "--classes", "dog", "--images", "none"], "the folder of the photos does not exist"),
        (["pets/train/labels/a.txt", "x.json"], "one label file is not a data set"),
        (["empty", "x.json"], "the folder has no labels"),
        (["IN.pth", "x.ckpt", "--to", "yolo"], "--to has no effect on this kind of input"),
    ],
)
def test_what_cannot_work_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    yolo_folder(Path("pets"))
    results(Path("found.json"))
    results(Path("bare.json"), file_name=None)
    Path("empty").mkdir()
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not Path("x.json").exists()


def test_checkpoints_are_converted_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": small_state(small_config())[1]}, "IN.pth")
    assert convert_adelaidet(["IN.pth", "OUT.ckpt"]) == 0
    before = capsys.readouterr().out
    assert main(["IN.pth", "OUT.ckpt"]) == 0
    assert capsys.readouterr().out == before
    assert main(["NO.pth", "OUT.ckpt"]) == 2
    assert "NO.pth" in capsys.readouterr().err
