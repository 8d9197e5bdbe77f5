"""A user's mistake: one readable message that names the culprit and the remedy, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg import train
from runs import SMALL, places
from small_coco import coco_folder


def message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, *overrides: str) -> str:
    """What ``python -m cis_seg.train`` prints when it gives up."""
    common = [o for o in SMALL if not o.startswith("data.num_")] if any(o.startswith("data=coco") for o in overrides) else list(SMALL)
    monkeypatch.setattr("sys.argv", ["train", *common, *places(tmp_path), "schedule.max_steps=2", "name=mistake", *overrides])
    with pytest.raises(SystemExit) as stop:
        train.main()
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert text.count("error:") == 1
    return text[text.index("error:") :]


def test_a_mistyped_weight(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = message(monkeypatch, capsys, tmp_path, "loss.weights.projj=1")
    assert "loss.weights.projj" in text
    assert "proj" in text.replace("projj", "")


@pytest.mark.parametrize("data", ["data=crowd", "data=coco"])
def test_missing_data_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: str) -> None:
    text = message(monkeypatch, capsys, tmp_path, data, "data.root=/nowhere")
    assert "/nowhere" in text
    assert "what to do" in text
    assert not Path("/nowhere").exists()


def test_a_truncated_image(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    image = root / "train2017" / "1.jpg"
    image.write_bytes(image.read_bytes()[:600])
    for workers in (0, 2):
        text = message(monkeypatch, capsys, tmp_path, "data=coco", f"data.root={root}", f"data.workers={workers}", f"name=cut{workers}")
        assert str(image) in text
        assert "what to do" in text


def test_a_negative_width(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco", box=[20.0, 10.0, -40.0, 60.0])
    text = message(monkeypatch, capsys, tmp_path, "data=coco", f"data.root={root}")
    assert "annotation 2" in text
    assert "instances_" in text
    assert "what to do" in text


def test_a_category_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = message(monkeypatch, capsys, tmp_path, "data=coco", f"data.root={coco_folder(tmp_path / 'coco')}", "data.categories=[persn]")
    assert "persn" in text
    assert "person" in text


def test_an_experiment_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = message(monkeypatch, capsys, tmp_path, "experiment=coco_minny")
    assert "coco_mini" in text


def test_a_reduction_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = message(monkeypatch, capsys, tmp_path, "loss.overlap.reduction=mean")
    assert "loss.overlap.reduction" in text
    assert "pairs or masks or sum" in text
