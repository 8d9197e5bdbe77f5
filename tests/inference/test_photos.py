"""Photos as people have them: turned, grey, transparent, deep, huge, broken."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cis_seg.data.images import read_image
from cis_seg.data.transforms import TestTransform
from cis_seg.errors import DataError
from cis_seg.inference.inputs import Source
from cis_seg.inference.photos import Photo, batched, read_photos

ORIENTATION = 0x0112
TRANSFORM = TestTransform(size=32, max_size=64)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def read(*paths: Path, view_side: int = 100) -> tuple[list[Photo], dict[Source, DataError]]:
    unreadable: dict[Source, DataError] = {}
    photos = list(read_photos([Source(path, path.name) for path in paths], TRANSFORM, view_side=view_side, unreadable=unreadable))
    return photos, unreadable


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_photo_is_upright(tmp_path: Path, orientation: int, turn: object) -> None:
    pixels, exif = noise(20, 30), Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert callable(turn)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", exif="apply"), turn(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)  # annotations are in pixels of the stored file


def test_corrupt_exif_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, *, in_place: bool) -> None:
        raise struct.error("unpack requires a buffer of 2 bytes")  # one of many

    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr("cis_seg.data.images.ImageOps.exif_transpose", fail)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", exif="apply"), noise(20, 30))


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(noise(20, 30)).convert("LA").save(tmp_path / "la.png")
    Image.fromarray(np.full((20, 30), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(noise(20, 30)).convert("1").save(tmp_path / "bits.tif")
    photos, unreadable = read(*(tmp_path / name for name in ("cmyk.jpg", "la.png", "deep.png", "bits.tif")))
    assert not unreadable
    assert [photo.view.shape for photo in photos] == [(20, 30, 3)] * 4
    assert (photos[2].view == 40_000 >> 8).all()
    assert np.abs(photos[0].view.astype(int) - noise(20, 30)).mean() < 40  # JPEG of noise, but the right way round: inverted it is 85


def test_the_view_is_bounded_and_the_size_is_the_files(tmp_path: Path) -> None:
    Image.fromarray(noise(150, 400)).save(tmp_path / "wide.png")
    Image.fromarray(noise(1, 1)).save(tmp_path / "dot.png")
    Image.fromarray(noise(1, 300)).save(tmp_path / "line.png")
    (wide, dot, line), _ = read(*(tmp_path / name for name in ("wide.png", "dot.png", "line.png")), view_side=200)
    assert wide.view.shape == (75, 200, 3)
    assert wide.example.original_size == (150, 400)
    assert tuple(wide.example.pixels.shape) == (3, 24, 64)
    assert dot.example.original_size == (1, 1)
    assert line.view.shape == (1, 200, 3)


def test_unreadable_files_are_reported_and_the_rest_continues(tmp_path: Path) -> None:
    Image.fromarray(noise(20, 30)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "fake.mp4").write_text("no video")
    paths = [tmp_path / name for name in ("cut.png", "good.png", "text.jpg", "lost.jpg", "fake.mp4", "good.png")]
    photos, unreadable = read(*paths)
    assert [photo.source.file_name for photo in photos] == ["good.png", "good.png"]
    assert [photo.example.image_id for photo in photos] == [1, 2]
    assert [source.file_name for source in unreadable] == ["cut.png", "text.jpg", "lost.jpg", "fake.mp4"]
    assert all(error.found for error in unreadable.values())


def test_large_photos_are_read_silently_and_decompression_bombs_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(20, 30)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # 600 pixels: above it, below twice it
        assert read_image(tmp_path / "a.png").shape == (20, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match="exceeds limit"):
        read_image(tmp_path / "a.png")


def test_only_equal_sizes_share_a_batch(tmp_path: Path) -> None:
    sizes = [(20, 30)] * 3 + [(30, 20)] + [(40, 60)] * 2
    for index, size in enumerate(sizes):
        Image.fromarray(noise(*size)).save(tmp_path / f"{index}.png")
    photos, _ = read(*sorted(tmp_path.iterdir()))
    groups = [[photo.source.file_name for photo in group] for group in batched(photos, 2)]
    assert groups == [["0.png", "1.png"], ["2.png"], ["3.png"], ["4.png", "5.png"]]
    assert list(batched([], 2)) == []
