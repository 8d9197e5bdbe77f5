"""Photos turned by EXIF: where their boxes were drawn is found by sizes or colours, and one option makes every reader follow."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cis_seg.data.orientation import BoxedPhoto, Turned, turned_photos
from cis_seg.errors import DataError
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities
from data_modules import coco_data

ORIENTATION = 0x0112


def upright_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, list[int]]:
    """A noisy background with a coloured instance near a corner, as a person sees it, and the instance's box xyxy."""
    height, width = size
    pixels = rng.integers(90, 110, (height, width, 3), dtype=np.uint8)
    x, y = (int(rng.integers(4, side // 8)) for side in (width, height))
    pixels[y : y + 24, x : x + 20] = rng.integers(0, 60, 3)
    return Image.fromarray(pixels), [x, y, x + 20, y + 24]


def save_turned(upright: Image.Image, path: Path, orientation: int) -> None:
    """Store the pixels such that viewers, which apply ``orientation``, show ``upright``."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = inverse
    tagged = upright.copy()
    tagged.getexif()[ORIENTATION] = inverse
    exif[ORIENTATION] = orientation
    ImageOps.exif_transpose(tagged).save(path, exif=exif, quality=95)


def folder(root: Path, orientation: int, *, drawn: str, size: tuple[int, int] = (96, 128), images: int = 12) -> Path:
    """A COCO data set whose photos all have ``orientation``, annotated on the pixels as ``drawn``: ``apply`` (upright) or ``ignore``."""
    rng, names = np.random.default_rng(0), [f"{number}.jpg" for number in range(images)]
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        for number, name in enumerate(names, start=1):
            upright, (x0, y0, x1, y1) = upright_scene(rng, size)
            save_turned(upright, root / f"{split}2017" / name, orientation)
            if drawn == "ignore":  # the same place of the scene in the stored photo
                upright, (x0, y0, x1, y1) = _stored(root / f"{split}2017" / name)
            polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 480.0, "iscrowd": 0, "segmentation": [polygon]}
            content["images"].append({"id": number, "file_name": name, "width": upright.width, "height": upright.height})
            content["annotations"].append({"id": number, "image_id": number, "category_id": 1, **box})
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root


def _stored(path: Path) -> tuple[Image.Image, list[int]]:
    with Image.open(path) as image:
        image.load()
        dark = np.asarray(image).max(axis=2) < 75
    ys, xs = np.nonzero(dark)
    return image, [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def looked_at(root: Path, exif: str) -> Turned:
    return coco_data(root, exif=exif, **SIZES).train_dataset.turned_photos


SIZES: dict[str, Any] = {"train_sizes": [96], "train_max_size": 128, "test_size": 96, "test_max_size": 128}
OTHER = {"ignore": "apply", "apply": "ignore"}


@pytest.mark.parametrize("drawn", ["ignore", "apply"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_orientation_is_recognised(tmp_path: Path, orientation: int, drawn: str) -> None:
    """With the option that fits nothing is said and the boxes lie on the instances; with the other one EXIF and the option are named."""
    root = folder(tmp_path, orientation, drawn=drawn)
    found = looked_at(root, drawn)
    assert found.problem(drawn) is None
    text, remedy = found.problem(OTHER[drawn]) or ("", "")
    assert f"12 of the 12 photos checked have an EXIF rotation (12 with orientation {orientation})" in text
    assert ("state the size" if orientation >= 5 else "boxes agree better with") in text
    assert f"set data.exif={drawn}" in remedy
    for sample in coco_data(root, exif=drawn, **SIZES).train_dataset:
        x0, y0, x1, y1 = sample.boxes[0].astype(int)
        assert sample.image[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].max() < 80
        assert sample.image.mean() > 85


@pytest.mark.parametrize("drawn", ["ignore", "apply"])
def test_square_photos(tmp_path: Path, drawn: str) -> None:
    found = looked_at(folder(tmp_path, 6, drawn=drawn, size=(128, 128)), "ignore")
    assert found.likely == drawn


def test_inconclusive_photos_are_reported(tmp_path: Path) -> None:
    """Photos turned by 180 degrees with boxes in the middle, which lie at the same place either way."""
    (tmp_path / "images").mkdir()
    names = [f"{number}.jpg" for number in range(4)]
    for name in names:
        save_turned(Image.new("RGB", (64, 64), "grey"), tmp_path / "images" / name, 3)
    photos = [BoxedPhoto(name, (64, 64), np.array([[22.0, 22.0, 42.0, 42.0]])) for name in names]
    found = turned_photos(tmp_path / "images", photos)
    for exif, read in (("ignore", "stored"), ("apply", "turned")):
        text, remedy = found.problem(exif) or ("", "")
        assert "neither sizes nor colours tell" in text
        assert f"they are read {read}" in text
        assert f"data.exif={OTHER[exif]}" in remedy
    save_turned(Image.new("RGB", (64, 48), "grey"), tmp_path / "images" / "sideways.jpg", 6)
    sideways = turned_photos(tmp_path / "images", [*photos, BoxedPhoto("sideways.jpg", (64, 48), np.zeros((0, 4)))])
    assert sideways.problem("ignore") is None, "the tool that drew on this photo as it is stored drew on the others likewise"
    assert "state the size of the stored photo (sideways.jpg for one)" in (sideways.problem("apply") or ("",))[0]
    save_turned(Image.new("RGB", (64, 48), "grey"), tmp_path / "images" / "upright.jpg", 8)
    both = [BoxedPhoto("sideways.jpg", (64, 48), np.zeros((0, 4))), BoxedPhoto("upright.jpg", (48, 64), np.zeros((0, 4)))]
    for exif in ("ignore", "apply"):
        text, remedy = turned_photos(tmp_path / "images", both).problem(exif) or ("", "")
        assert "sideways.jpg" in text
        assert "upright.jpg" in text
        assert "auto-orient" in remedy


def test_upright_photos_are_not_mentioned(tmp_path: Path) -> None:
    found = looked_at(folder(tmp_path, 1, drawn="apply", images=3), "ignore")
    assert (found.total, found.orientations.total()) == (3, 0)
    assert found.problem("ignore") is None
    assert found.problem("apply") is None


def test_training_and_the_check_report_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, 3, drawn="apply")
    data, looked = coco_data(root, **SIZES), list[Path]()
    monkeypatch.setattr("cis_seg.data.records.turned_photos", lambda folder, photos: looked.append(folder) or turned_photos(folder, photos))
    with caplog.at_level(logging.WARNING):
        for stage in ("fit", "fit", "validate"):  # by the command, and by Lightning
            data.setup(stage)
    assert caplog.text.count("12 of the 12 photos checked have an EXIF rotation") == len(looked) == 2, (
        "once each for the training and the scored set"
    )
    assert "set data.exif=apply" in caplog.text
    contents = read_contents(root / "annotations" / "instances_train2017.json", root / "train2017")
    find_oddities(contents, pixels=True)
    (oddity,) = [oddity for oddity in contents.oddities if oddity.kind == "whole_file"]
    assert "set data.exif=apply" in oddity.detail
    caplog.clear()
    coco_data(root, exif="apply", **SIZES).setup("fit")
    assert "EXIF" not in caplog.text


def test_size_mismatch_of_a_rotated_photo_names_the_option(tmp_path: Path) -> None:
    """And not to other numbers in the json, which would train on boxes that lie elsewhere."""
    data = coco_data(folder(tmp_path, 6, drawn="apply", images=2), **SIZES).train_dataset
    with pytest.raises(DataError, match=r"EXIF orientation 6 and was annotated as viewers show it: set exif=apply \(data.exif=apply"):
        data.sample(0)
