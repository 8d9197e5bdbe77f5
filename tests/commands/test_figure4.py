"""The command on two small checkpoints and two made images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cis_seg.commands import figure4
from cis_seg.errors import CheckpointError, ConfigError, DataError
from runs import composed
from tiny_model import tiny_config, tiny_model


def write_checkpoint(path: Path, *, sure: float, names: tuple[str, ...] = ("person",)) -> Path:
    """An untrained network that takes every location for a person where ``sure`` is large."""
    model = tiny_model(num_classes=len(names))
    torch.nn.init.constant_(model.head.cls_logits.bias, sure)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    metadata = {"config": {"model": asdict(tiny_config())}, "class_names": list(names), "category_ids": list(range(1, len(names) + 1))}
    torch.save({"state_dict": state, "cis_seg": metadata}, path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder with the images 7 and 9, and the checkpoints sure.ckpt and unsure.ckpt."""
    folder = tmp_path_factory.mktemp("figure, four")
    (folder / "val").mkdir()
    images, annotations = [], []
    for number in (7, 9):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
        outline = [4, 4, 30, 4, 30, 40, 4, 40]
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [4, 4, 26, 36],
                "area": 936,
                "iscrowd": 0,
                "segmentation": [outline],
            }
        )
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "val.json").write_text(json.dumps(truth))
    write_checkpoint(folder / "sure.ckpt", sure=6.0)
    write_checkpoint(folder / "unsure.ckpt", sure=-9.0)
    return folder


def draw(root: Path, output: Path, *overrides: str) -> list[Path]:
    paths = [f"data.root='{root}'", f"checkpoint='{root}/sure.ckpt'", f"other='{root}/unsure.ckpt'", f"output='{output}'"]
    files = ["data=coco", "data.val_annotations=val.json", "data.val_images=val", "data.test_size=48", "device=cpu"]
    return figure4.figure4(composed(*paths, *files, *overrides, name="figure"))


def test_png_and_pdf_with_a_row_an_image(root: Path, tmp_path: Path) -> None:
    written = draw(root, tmp_path / "all", "count=2")
    assert [path.name for path in written] == ["figure4.png", "figure4.pdf"]
    assert written[1].read_bytes().startswith(b"%PDF")
    with Image.open(written[0]) as both:
        two = both.size
        pixels = np.asarray(both.convert("RGB"))
    assert pixels.std() > 20
    with Image.open(draw(root, tmp_path / "one", "images=[9]")[0]) as page:
        assert page.size[0] == two[0]
        assert page.size[1] < 0.75 * two[1]


def test_caption_states_the_selection_and_both_means(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(figure4, "draw_page", lambda *arguments: seen.append(arguments) or [])
    draw(root, tmp_path, "images=[9]", "titles=[a,b]")
    draw(root, tmp_path, "count=1")
    rows, titles, caption, _ = seen[0]
    assert isinstance(rows, dict)
    assert list(rows) == [9]
    assert titles == ["a", "b", "ground truth"]
    assert str(caption).startswith("chosen images; scores from 0.3; claimed twice, mean over these: a ")
    notes = [panel.note for panel in rows[9]]
    assert notes[1:] == ["0 people, 0.0 % claimed twice", "1 people, 0.0 % claimed twice"]
    assert int(notes[0].split()[0]) > 1
    assert str(seen[1][2]).startswith("the 1 most changed of 2 images;")


def test_ground_truth_is_limited_to_the_networks_classes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COCO outlines chairs and plants too; networks of people cannot find those."""
    content = json.loads((root / "val.json").read_text())
    chair = content["annotations"][0] | {"id": 1, "category_id": 62}
    (root / "all.json").write_text(
        json.dumps(
            content
            | {"annotations": [*content["annotations"], chair], "categories": [{"id": 1, "name": "person"}, {"id": 62, "name": "chair"}]}
        )
    )
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(figure4, "draw_page", lambda *arguments: seen.append(arguments) or [])
    draw(root, tmp_path, "images=[7]", "data.val_annotations=all.json")
    rows = seen[0][0]
    assert isinstance(rows, dict)
    assert rows[7][2].note.startswith("1 people")


def test_user_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image has the id 8"):
        draw(root, tmp_path, "images=[7,8]")
    with pytest.raises(ConfigError, match="count: invalid value"):
        draw(root, tmp_path, "count=0")
    dogs = write_checkpoint(tmp_path / "dogs.ckpt", sure=0.0, names=("dog",))
    with pytest.raises(CheckpointError, match="does not know the class person"):
        draw(root, tmp_path, f"other='{dogs}'")
