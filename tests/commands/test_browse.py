"""Pages of a data set through the real ``main``, and what a panel of a training batch shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cis_seg.structures import Batch, Target
from cis_seg.visualization.drawing import CROWD_COLOR, PALETTE
from cis_seg.visualization.pages import batch_panel
from runs import exit_code

SIZE = (60, 80)  # height, width of the photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three grey photos in COCO's layout, a person in each of the first two and a crowd region."""
    polygon = [10, 10, 40, 10, 40, 50, 10, 50]
    people = [{"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 30, 40], "segmentation": [polygon], "iscrowd": 0} for i in (0, 1)]
    crowd: dict[str, Any] = {"id": 9, "image_id": 0, "category_id": 1, "bbox": [50, 0, 20, 20], "iscrowd": 1}
    crowd["segmentation"] = [[50, 0, 70, 0, 70, 20, 50, 20]]
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(3)]
    content = {"images": images, "annotations": [*people, crowd], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        (tmp_path / part).mkdir()
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        for image in images:
            Image.new("RGB", SIZE[::-1], (120, 120, 120)).save(tmp_path / part / str(image["file_name"]))
    return tmp_path


def browsed(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> int:
    """The exit code of the command."""
    sizes = ["data.train_sizes=[64]", "data.train_max_size=96", "data.workers=0", "batch_size=2"]
    return exit_code(monkeypatch, "browse", "data=coco", f"data.root={folder}", f"output={folder}/pages, all", *sizes, *overrides)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "pages, all").iterdir())


def test_batches_and_ground_truth_are_drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert browsed(monkeypatch, folder, "masks=true") == 0
    assert names(folder) == ["train_000.png", "train_001.png", "truth_000.png"]
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == names(folder)
    first = (folder / "pages, all" / "train_000.png").read_bytes()
    assert browsed(monkeypatch, folder, "masks=true", "num_batches=1") == 0
    assert names(folder) == ["train_000.png", "truth_000.png"], "pages of an earlier look are gone"
    assert (folder / "pages, all" / "train_000.png").read_bytes() == first, "the same seed shows the same batch"


def test_set_without_training_images_shows_ground_truth(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "annotations" / "instances_train2017.json").unlink()
    assert browsed(monkeypatch, folder, "num_truth=1") == 0
    assert names(folder) == ["truth_000.png"]
    page = np.asarray(Image.open(folder / "pages, all" / "truth_000.png")).astype(int)
    half = page.shape[1] // 2
    assert np.ptp(page[:, : half - 20], axis=2).max() == 0, "the photo alone is grey"
    assert np.ptp(page[:, half + 20 :], axis=2).max() > 40, "the mask beside it is coloured"


@pytest.mark.parametrize(
    ("change", "overrides", "said"),
    [
        (lambda root: [path.unlink() for path in (root / "annotations").iterdir()], [], "the data set has no annotation file"),
        (lambda root: (root / "train2017" / "1.png").unlink(), [], "1.png is missing"),
        (lambda root: (root / "val2017").rename(root / "gone"), ["num_batches=0"], "the image folder does not exist"),
        (lambda root: None, ["batch_size=0"], "batch_size: invalid value"),
        (lambda root: None, ["data.annotations=other.json"], "the annotation file does not exist"),
    ],
)
def test_user_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, change: Any, overrides: list[str], said: str
) -> None:
    change(folder)
    assert browsed(monkeypatch, folder, *overrides) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text


def test_a_panel_shows_what_the_network_and_the_losses_get() -> None:
    pixels = torch.full((1, 3, 96, 96), 100, dtype=torch.uint8)
    pixels[:, :, 80:] = 0  # padding
    mask = torch.zeros(1, 80, 96, dtype=torch.bool)
    mask[:, 10:30, 10:30] = True
    target = Target(torch.tensor([[10.0, 10.0, 50.0, 50.0]]), torch.tensor([0]), mask, torch.tensor([[60.0, 60.0, 80.0, 80.0]]))
    batch = Batch(pixels, torch.full_like(pixels, 40), ((80, 96),), ((160, 192),), (7,), (0,), (target,))
    panel = batch_panel(batch, 0, ["person"], mask_stride=4).astype(int)
    scale = (panel.shape[1] - 8) // (2 * 96)
    head = panel.shape[0] - 96 * scale
    left, right = panel[head:, : 96 * scale], panel[head:, 96 * scale + 8 :]

    def at(side: np.ndarray, x: float, y: float) -> list[int]:
        color: list[int] = side[int(y * scale), int(x * scale)].tolist()
        return color

    blend = [int(100 * 0.58 + part * 0.42) for part in PALETTE[0]]
    assert at(left, 20, 20) == pytest.approx(blend, abs=1)  # the mask
    assert at(left, 40, 40) == [100, 100, 100]  # in the box, not in the mask
    assert at(left, 70, 70) == pytest.approx([int(100 * 0.58 + part * 0.42) for part in CROWD_COLOR], abs=1)
    assert at(left, 70, 90) == [0, 0, 0]
    assert at(right, 90, 20) == [40, 40, 40]  # the colours before augmentation
    assert at(right, 40, 40) == pytest.approx([int(40 * 0.58 + part * 0.42) for part in PALETTE[0]], abs=1)  # the filled box
    # cells are sampled at 2, 6, 10, ...: the first in the box is that of 8..12, the last that of 48..52
    assert at(right, 9, 30)[0] > 60
    assert at(right, 51, 30)[0] > 60
    assert at(right, 6, 30) == at(right, 54, 30) == [40, 40, 40]
