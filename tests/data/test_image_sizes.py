"""Sizes of images: read once, kept beside the images, read again where a file changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cis_seg.data import image_sizes as module
from cis_seg.data.image_sizes import cache_path, image_sizes

WritePhoto = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, write_photo: WritePhoto) -> Path:
    images = tmp_path / "Images"
    write_photo(images / "27,a.jpg", height=24, width=32)
    write_photo(images / "b.jpg", height=10, width=12)
    (images / "text.jpg").write_text("no image")
    return images


NAMES = ["27,a.jpg", "b.jpg", "text.jpg", "missing.jpg", "x" * 300 + ".jpg", "nul\0.jpg"]
SIZES = {"27,a.jpg": (24, 32), "b.jpg": (10, 12)}


def test_headers_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image_sizes(folder, NAMES) == SIZES
    assert cache_path(folder) == folder.parent / "Images.sizes.json"
    assert set(json.loads(cache_path(folder).read_text())["files"]) == set(SIZES)
    monkeypatch.setattr(module, "read_headers", None)
    assert image_sizes(folder, [name for name in NAMES if name != "text.jpg"]) == SIZES


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    image_sizes(folder, NAMES)
    Image.new("RGB", (50, 40)).save(folder / "b.jpg")
    (folder / "27,a.jpg").write_text("damaged since")
    assert image_sizes(folder, NAMES) == {"b.jpg": (40, 50)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"format": 0}',
        '{"format": 1, "files": {"b.jpg": [1, 2, 3, 4]}}',
        '{"format": 2, "files": {"b.jpg": [1, 2]}}',
        '{"format": 2, "files": 3}',
    ],
)
def test_corrupt_cache_is_rewritten(folder: Path, content: str) -> None:
    cache_path(folder).write_text(content)
    assert image_sizes(folder, NAMES) == SIZES
    assert json.loads(cache_path(folder).read_text())["files"]["b.jpg"][:2] == [10, 12]


def test_unwritable_folder_is_reported_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    module._log_unwritable.cache_clear()
    folder.parent.chmod(0o555)
    try:
        with caplog.at_level(logging.INFO, logger="cis_seg"):
            assert image_sizes(folder, NAMES) == SIZES == image_sizes(folder, NAMES)
    finally:
        folder.parent.chmod(0o755)
    assert not cache_path(folder).exists()
    assert caplog.text.count("kept in memory") == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["Images"]
