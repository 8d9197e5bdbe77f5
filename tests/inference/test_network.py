"""The Python interface gives the numbers of the commands, for every form of an image, and refuses what is none."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import cis_seg
from cis_seg.errors import CheckpointError, ConfigError, UserError
from cis_seg.inference.network import Network
from runs import exit_code
from tiny_model import tiny_checkpoint

OPTIONS = {"score_threshold": 0.05, "max_detections": 6}
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and photos: plain, turned by EXIF, of 16 bits, as large as an overlay."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "photos").mkdir()
    tiny_checkpoint(folder / "tiny.ckpt")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(NOISE)
    photo.save(folder / "photos" / "plain.png")
    photo.save(folder / "photos" / "turned.jpg", exif=exif)
    Image.fromarray(NOISE[:, :, 0].astype(np.uint16) << 8).save(folder / "photos" / "deep.png")
    photo.resize((800, 600)).save(folder / "photos" / "large.jpg")
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return cis_seg.load(folder / "tiny.ckpt", device="cpu")


def test_predict_gives_the_numbers_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, network: Network, tmp_path: Path
) -> None:
    given = [f"{key}={value}" for key, value in OPTIONS.items()]
    paths = (f"checkpoint={folder}/tiny.ckpt", f"input={folder}/photos", f"output={tmp_path}/out")
    assert exit_code(monkeypatch, "predict", *paths, "device=cpu", "draw_threshold=0.9", *given) == 0
    written: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads((tmp_path / "out" / "predictions.json").read_text()):
        written.setdefault(entry.pop("file_name"), []).append(entry)
    found = network.predict(folder / "photos", **OPTIONS)
    assert [one.path.name for one in found] == sorted(written)
    for number, one in enumerate(found, start=1):
        expected = written[one.path.name]
        opened = Image.open(one.path)
        array = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")) if opened.mode == "RGB" else NOISE[:, :, [0, 0, 0]]
        for same in (one, network.predict(str(one.path), **OPTIONS), *network.predict([opened, array], **OPTIONS)):  # type: ignore[arg-type]
            assert same.to_coco(image_id=number) == expected
        assert one.scores.tolist() == [entry["score"] for entry in expected] == sorted(one.scores.tolist(), reverse=True)
        assert one.masks.sum(axis=(1, 2)).any()
    large = next(one for one in found if one.path.name == "large.jpg")
    np.testing.assert_array_equal(large.draw(draw_threshold=0.9), np.asarray(Image.open(tmp_path / "out" / "large.png")))


@pytest.mark.parametrize("changes", [{}, {"inference": "best"}, {"refine": True}, {"cut_to_box": True, "exclusive": True}])
def test_tiles_give_the_numbers_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    network: Network,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    """On upright photos, with the limit of instances for the whole image."""
    options = {"tiles": "48x40", "overlap": 0.3, "score_threshold": 0.05, "max_detections": 5} | changes
    paths = (f"checkpoint={folder}/tiny.ckpt", f"input={folder}/photos/[dt]*", f"output={tmp_path}/out")
    given = [f"{key}={value}" for key, value in options.items()]
    assert exit_code(monkeypatch, "predict", *paths, "device=cpu", *given) == 0
    written: dict[str, list[dict[str, Any]]] = {"deep.png": [], "turned.jpg": []}
    for entry in json.loads((tmp_path / "out" / "predictions.json").read_text()):
        written[entry.pop("file_name")].append(entry)
    found = network.predict(f"{folder}/photos/[dt]*", **options)
    assert [one.path.name for one in found] == list(written)
    for number, one in enumerate(found, start=1):
        assert one.to_coco(image_id=number) == written[one.path.name]
        whole = network.predict(one.path, score_threshold=0.05, **changes)  # type: ignore[arg-type]
        assert whole.to_coco() != one.to_coco()
        assert one.image_size == whole.image_size
        assert 0 < len(one) <= 5
    said = capsys.readouterr().err
    assert "deep.png: 4 tiles and the whole image" in said
    assert ("instances are kept, the best (max_detections)" in said) == bool(changes), "uncut masks of this network are alike"


def test_tiles_of_a_small_image_change_nothing(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    expected = network.predict(NOISE, **OPTIONS).to_coco()  # type: ignore[arg-type]
    for options in ({"tiles": "auto"}, {"tiles": "80x60"}, {"tiles": "1000x1000", "overlap": 0.5}):
        assert network.predict(NOISE, **OPTIONS, **options).to_coco() == expected  # type: ignore[arg-type]
    assert "overlap" not in caplog.text
    assert network.predict(NOISE, **OPTIONS, overlap=0.5).to_coco() == expected  # type: ignore[arg-type]
    assert "overlap has no effect without tiles" in caplog.text
    for wrong in ("big", "0x30", "30", "30 x 40", (30, 40)):
        with pytest.raises(ConfigError, match="tiles: invalid value"):
            network.predict(NOISE, tiles=wrong)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="overlap: invalid value"):
        network.predict(NOISE, tiles="auto", overlap=0.9)


@pytest.mark.parametrize(("said", "options"), [([], {}), (["scales=[1,1.5]"], {"scales": [1, 1.5]})])
def test_masks_for_gives_the_numbers_of_the_command(
    said: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path, network: Network, tmp_path: Path
) -> None:
    """One box reaches beyond the image, one is of a category that the network does not know, and one is too small for it."""
    boxes = [[10, 10, 40, 40], [30.5, 5, 20, 50], [70, 50, 30, 30], [39, 39, 1, 1]]
    annotations = [{"id": i, "image_id": 3, "category_id": 1 + (i == 1), "bbox": box} for i, box in enumerate(boxes)]
    images = [{"id": 3, "file_name": "turned.jpg", "height": 60, "width": 80}]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "robot"}]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    paths = (f"checkpoint={folder}/tiny.ckpt", f"boxes={tmp_path}/boxes.json", f"images={folder}/photos", f"output={tmp_path}/m.json")
    assert exit_code(monkeypatch, "masks_from_boxes", *paths, "device=cpu", "pages=0", *said) == 0
    written = json.loads((tmp_path / "m.json").read_text())["annotations"]
    corners = np.array(boxes) @ np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    photo = folder / "photos" / "turned.jpg"
    for image in (photo, Image.open(photo), np.asarray(Image.open(photo))):
        found = network.masks_for(image, corners, labels=[1, -1, 1, 1], **options)
        assert [entry["segmentation"] for entry in found.to_coco()] == [annotation["segmentation"] for annotation in written]
        assert found.scores.tolist() == np.float32([annotation["confidence"] for annotation in written]).tolist()
        np.testing.assert_array_equal(found.boxes, corners.astype(np.float32))
        assert found.names[0] == "person"
        assert found.names[1] in ("dog", "person")


def test_what_comes_back(network: Network, tmp_path: Path) -> None:
    found = network.predict(NOISE, **OPTIONS)  # type: ignore[arg-type]
    count = len(found)
    assert 0 < count <= 6
    kinds = [(values.shape, values.dtype) for values in (found.boxes, found.scores, found.labels, found.masks)]
    assert kinds == [((count, 4), "float32"), ((count,), "float32"), ((count,), "int64"), ((count, 60, 80), "bool")]
    assert found.names == [network.class_names[label] for label in found.labels]
    assert found.draw().shape == NOISE.shape
    assert (np.asarray(Image.open(found.save(tmp_path / "new" / "seen.png"))) == found.draw()).all()
    assert pickle.loads(pickle.dumps(found)).to_coco() == found.to_coco()
    with pytest.raises(ConfigError, match=r"seen\.xyz"):
        found.save(tmp_path / "seen.xyz")
    assert len(network.predict(NOISE, score_threshold=1.0)) == len(network.masks_for(NOISE, [])) == 0
    claims = network.predict(NOISE, exclusive=True, **OPTIONS).masks.sum(axis=0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(claims, found.masks.any(axis=0))


def test_files_of_a_folder_that_cannot_be_read_are_logged(
    network: Network, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jpg", "clip.mp4"):
        (tmp_path / name).write_bytes(b"nothing")
    Image.fromarray(NOISE).save(tmp_path / "b.png")
    assert [one.path.name for one in network.predict(f"{tmp_path}/*")] == ["b.png"]
    assert "a.jpg cannot be read and is left out" in caplog.text
    assert "1 videos are left out, clip.mp4 for one" in caplog.text


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere.jpg", "there is no such image"),
        ([Path("/")], "a folder is given where one image is needed"),
        (NOISE / 255, "(image * 255)"),
        (NOISE[:, :, 0], "numpy.stack"),
        (NOISE.transpose(2, 0, 1), "image.transpose(1, 2, 0)"),
        (NOISE[None], "list(images)"),
        (NOISE[:0], "has the wrong shape"),
        (np.dstack([NOISE, NOISE[:, :, 0]]), "image[:, :, :3]"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image(network: Network, image: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        network.predict(image)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("boxes", "labels", "said"),
    [
        ([10, 10, 40, 40], None, "pass [box] for a single box"),
        ([[10, 10, 40]], None, "have the wrong shape"),
        ([["a"] * 4], None, "the boxes are not numbers"),
        ([[0, 0, 9, 9], [90, 10, 99, 20]], None, "box 1 has no area inside the image"),
        ([[50, 10, 20, 20]], None, "corners instead of width and height"),
        ([[0, 0, np.nan, 9]], None, "box 0 has no area"),
        ([[0, 0, 9, 9]], [2], "from 0 to 1 (dog, person)"),
        ([[0, 0, 9, 9]], [0, 0], "the labels do not fit the boxes"),
    ],
)
def test_what_are_no_boxes(network: Network, boxes: Any, labels: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        network.masks_for(NOISE, boxes, labels)
    assert said in str(caught.value)


def test_loading_draws_no_random_number(folder: Path) -> None:
    before = torch.get_rng_state()
    cis_seg.load(folder / "tiny.ckpt", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_user_errors_of_loading_and_options(network: Network, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        cis_seg.load(folder / "nowhere.ckpt")
    with pytest.raises(CheckpointError, match="another format"):
        cis_seg.load(folder / "photos" / "plain.png")
    content = torch.load(folder / "tiny.ckpt", weights_only=True)
    content["cis_seg"]["config"]["model"]["mask_feat_chanels"] = 8
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"(?s)other\.ckpt does not fit this version.*mask_feat_chanels"):
        cis_seg.load(tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match="this device cannot be used"):
        cis_seg.load(folder / "tiny.ckpt", device="gpu")
    with pytest.raises(ConfigError, match="score_threshold: invalid value"):
        network.predict(NOISE, score_threshold=30)
    with pytest.raises(ConfigError, match="exif"):
        network.predict(NOISE, exif="turn")
    with pytest.raises(ConfigError, match="test_size: invalid value"):
        network.masks_for(NOISE, [], test_size=0)
    with pytest.raises(ConfigError, match="scales: invalid value"):
        network.masks_for(NOISE, [], scales=[1, 0])
