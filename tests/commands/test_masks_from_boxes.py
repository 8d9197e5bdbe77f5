"""Masks for given boxes through the real ``main``: what comes out, what is refused, what is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cis_seg.coco import rle
from cis_seg.commands import masks_from_boxes
from cis_seg.data.coco import CocoDataset
from cis_seg.data.formats.yolo import read_yolo
from cis_seg.inference import box_masks
from label_folders import labelme_folder, photo, shape, yolo_folder
from runs import exit_code
from tiny_model import tiny_checkpoint

NAME = "a,b (1)=c.jpg"  # as CrowdHuman's, and worse


def content() -> dict[str, Any]:
    """Four images of 60 x 80: people, a thing the network does not know, a crowd region, boxes without area; nobody."""
    boxes = {5: [10, 10, 40, 40], 0: [30.5, 5, 20, 50], 9: [70, 50, 30, 30], 12: [90, 10, 10, 10], 3: [20, 20, 0, 9], 4: [39, 39, 1, 1]}
    annotations = [{"id": i, "image_id": 2, "category_id": 1, "bbox": box, "extra": {"occluded": True}} for i, box in boxes.items()]
    annotations += [
        {"id": 20, "image_id": 0, "category_id": 7, "bbox": [5, 5, 50, 50], "area": 7, "iscrowd": 0, "segmentation": []},
        {"id": 21, "image_id": 0, "category_id": 1, "bbox": [0, 0, 79, 30], "iscrowd": 1},
    ]
    images = [{"id": i, "file_name": name, "height": 60, "width": 80} for i, name in {2: NAME, 0: "b.png", 5: "nobody.jpg"}.items()]
    categories = [{"id": 7, "name": "robot"}, {"id": 1, "name": "person"}]
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, photos and boxes; nobody.jpg is not there, as no box needs it."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "photos, all").mkdir()
    for name in (NAME, "b.png"):
        Image.fromarray(noise).save(tmp_path / "photos, all" / name)
    tiny_checkpoint(tmp_path / "tiny.ckpt")
    (tmp_path / "boxes.json").write_text(json.dumps(content()))
    return tmp_path


def masked(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> int:
    """The exit code of the command."""
    paths = [f"checkpoint={folder}/tiny.ckpt", f"boxes={folder}/boxes.json", f"images={folder}/photos, all", f"output={folder}/out/m.json"]
    return exit_code(monkeypatch, "masks_from_boxes", *paths, "device=cpu", *overrides)


def test_every_box_gets_its_mask(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert masked(monkeypatch, folder) == 0
    given, out = content(), json.loads((folder / "out" / "m.json").read_text())
    assert {key: out[key] for key in ("info", "images", "categories")} == {key: given[key] for key in ("info", "images", "categories")}
    found = {annotation["id"]: annotation for annotation in out["annotations"]}
    assert sorted(found) == sorted(annotation["id"] for annotation in given["annotations"])
    for annotation in given["annotations"]:
        same = annotation.keys() - {"segmentation", "area"}
        assert {key: found[annotation["id"]][key] for key in same} == {key: annotation[key] for key in same}
    assert found[21] == given["annotations"][-1]  # a crowd region stays as it is
    for number in (5, 0, 9, 12, 3, 4, 20):
        mask = coco_mask.decode(found[number]["segmentation"])
        assert mask.shape == (60, 80)
        assert found[number]["area"] == mask.sum()
        assert 0 <= found[number]["confidence"] <= 1
    assert found[9]["confidence"] > 0
    assert all((found[number]["confidence"], found[number]["area"]) == (0, 0) for number in (12, 3))  # outside, and without width
    assert found[4]["confidence"] == 0  # one pixel, between the locations
    assert found[20]["iscrowd"] == 0
    assert [path.name for path in sorted((folder / "out").iterdir())] == ["m.json", "m_000.png"]
    assert Image.open(folder / "out" / "m_000.png").size[0] > 1000


def test_output_is_read_by_our_readers_and_pycocotools(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert masked(monkeypatch, folder, "pages=0") == 0
    output = folder / "out" / "m.json"
    assert not list(output.parent.glob("*.png"))
    dataset = CocoDataset(output, folder / "photos, all", load_masks=True)
    sample = dataset.sample(0)
    assert sample.masks is not None
    assert len(sample.masks) == len(sample.boxes) == 4
    assert len(COCO(str(output)).loadAnns([5, 0, 9])) == 3


def test_mask_of_a_box_does_not_depend_on_other_boxes(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert masked(monkeypatch, folder, "pages=0") == 0
    together = {a["id"]: a for a in json.loads((folder / "out" / "m.json").read_text())["annotations"]}
    monkeypatch.setattr(box_masks, "BOXES_AT_ONCE", 1)
    assert masked(monkeypatch, folder, "pages=0") == 0
    alone = {a["id"]: a for a in json.loads((folder / "out" / "m.json").read_text())["annotations"]}
    for number, annotation in together.items():
        if "confidence" in annotation:
            assert alone[number]["confidence"] == pytest.approx(annotation["confidence"], abs=1e-3)
            assert abs(alone[number]["area"] - annotation["area"]) <= 2


def test_masks_stay_in_their_boxes_unless_asked(monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = {}
    for option in ("pages=0", "cut_to_box=false", "refine=true"):
        assert masked(monkeypatch, folder, "pages=0", option) == 0
        outside[option] = 0
        for annotation in json.loads((folder / "out" / "m.json").read_text())["annotations"]:
            if "confidence" in annotation and annotation["area"]:
                mask, (x, y, w, h) = coco_mask.decode(annotation["segmentation"]), annotation["bbox"]
                mask[y : y + h, int(x) : math.ceil(x + w)] = 0
                outside[option] += int(mask.sum())
    assert outside["pages=0"] == outside["refine=true"] == 0
    assert outside["cut_to_box=false"] > 100
    assert masked(monkeypatch, folder, "pages=0", "cut_to_box=false", "refine=true") == 0
    assert "cut_to_box=false has no effect" in capsys.readouterr().err


def test_corrupt_images_are_reported_and_the_others_are_processed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    Image.new("RGB", (60, 80)).save(folder / "photos, all" / "b.png")  # turned
    assert masked(monkeypatch, folder) == masks_from_boxes.EXIT_SOME_UNREADABLE
    text = capsys.readouterr().err
    assert "1 images could not be used" in text
    assert "the size of b.png does not match its annotations (60 x 80)" in text
    assert {a["image_id"] for a in json.loads((folder / "out" / "m.json").read_text())["annotations"]} == {2}


def changed(folder: Path, **changes: Any) -> None:
    """Changes the first annotation of the file of boxes."""
    boxes = content()
    boxes["annotations"][0] |= changes
    (folder / "boxes.json").write_text(json.dumps(boxes))


def test_an_invalid_box_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    changed(folder, bbox=[1, 2, -3, 4])
    assert masked(monkeypatch, folder) == 2
    text = capsys.readouterr().err
    assert f"annotation 5 of image 2 ({NAME}) has a negative width" in text
    assert "Traceback" not in text
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("images=FOLDER", "2 of 2 images with boxes are missing"),
        ("images=FOLDER/nowhere", "the image folder does not exist"),
        ("boxes=FOLDER/nothing.json", "the annotation file does not exist"),
        ("output=FOLDER/boxes.json", "the output cannot be written there"),
        ("output=FOLDER", "the output cannot be written there"),
        ("checkpoint=FOLDER/nowhere.ckpt", "there is no checkpoint"),
        ("pages=-1", "pages: invalid value"),
    ],
)
def test_user_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, override: str, said: str) -> None:
    before = (folder / "boxes.json").read_text()
    assert masked(monkeypatch, folder, override.replace("FOLDER", str(folder))) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text
    assert (folder / "boxes.json").read_text() == before


def yolo_masks(monkeypatch: pytest.MonkeyPatch, folder: Path, boxes: Path, output: Path, *overrides: str) -> int:
    words = [f"checkpoint={folder}/tiny.ckpt", f"boxes={boxes}", f"output={output}", "device=cpu"]
    return exit_code(monkeypatch, "masks_from_boxes", *words, *overrides)


def test_yolo_boxes_become_yolo_seg(monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pets, out = yolo_folder(folder / "pets"), folder / "masks"
    assert yolo_masks(monkeypatch, folder, pets / "data.yaml", out, "cut_to_box=false") == 0
    said = capsys.readouterr().err
    assert "pets/data.yaml (YOLO): 3 images, 4 instances (0 with an outline)" in said
    assert "masks/data.yaml: 3 images, 4 polygons" in said
    assert sorted(path.name for path in out.iterdir()) == ["data.yaml", "masks.json", "masks_000.png", "train", "valid"]
    given = {entry["id"]: entry for entry in read_yolo(pets).content["annotations"]}
    masks = {entry["id"]: entry for entry in json.loads((out / "masks.json").read_text())["annotations"]}
    assert {number: entry["bbox"] for number, entry in masks.items()} == {number: entry["bbox"] for number, entry in given.items()}
    again = read_yolo(out).content
    assert [(image["file_name"], image["split"]) for image in again["images"]] == [
        ("train/images/a.jpg", "train"),
        ("train/images/b.jpg", "train"),
        ("valid/images/c.jpg", "val"),
    ]
    for entry, mask in zip(again["annotations"], masks.values(), strict=True):
        if mask["area"]:
            code = rle.from_segmentation(entry["segmentation"], (60, 80))
            assert code is not None
            np.testing.assert_array_equal(rle.decode(code), rle.decode(mask["segmentation"]))
    assert yolo_masks(monkeypatch, folder, pets, out) == 2
    assert "the output must be a new folder or a json" in capsys.readouterr().err
    assert yolo_masks(monkeypatch, folder, pets, folder / "m.json", "pages=0") == 0
    assert json.loads((folder / "m.json").read_text()).keys() == {"info", "images", "annotations", "categories"}


def test_unreadable_photos_are_not_background(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    pets = yolo_folder(folder / "pets")
    path = pets / "train" / "images" / "a.jpg"
    path.write_bytes(path.read_bytes()[:-300])  # the header is whole
    assert yolo_masks(monkeypatch, folder, pets, folder / "masks") == masks_from_boxes.EXIT_SOME_UNREADABLE
    assert [label.stem for label in sorted((folder / "masks").rglob("*.txt"))] == ["b", "c"]


def test_labelme_boxes_become_labelme_polygons(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    root = labelme_folder(folder / "in", shape("person", [[10, 10], [70, 50]], "rectangle"))
    assert yolo_masks(monkeypatch, folder, root, folder / "out", "pages=0") == 0
    shapes = json.loads((folder / "out" / "labels" / "a.json").read_text())["shapes"]
    assert {entry["shape_type"] for entry in shapes} == {"polygon"}
    assert shapes[0]["description"].startswith("confidence ")


def test_a_json_needs_the_folder_of_its_photos(monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yolo_masks(monkeypatch, folder, folder / "boxes.json", folder / "m.json") == 2
    assert "the folder of the photos is not set" in capsys.readouterr().err


def test_turned_photos_of_labels_are_read_upright(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    pets = yolo_folder(folder / "pets")
    photo(pets / "train" / "images" / "a.jpg", orientation=6)
    for option, size in (("pages=0", [80, 60]), ("exif=ignore", [60, 80])):
        assert yolo_masks(monkeypatch, folder, pets, folder / "m.json", "pages=0", option) == 0
        assert json.loads((folder / "m.json").read_text())["annotations"][0]["segmentation"]["size"] == size
