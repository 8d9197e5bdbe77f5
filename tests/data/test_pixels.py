"""Every kind of pixel is read as a person sees it, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from cis_seg.data.image_files import read_header
from cis_seg.data.images import read_image
from cis_seg.data.orientation import BoxedPhoto, turned_photos
from cis_seg.errors import DataError

RAMP = np.linspace(0, 1, 12).reshape(3, 4)  # the first value black, the last white
EXPECTED = np.repeat((RAMP * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def of_bits(bits: int) -> Any:
    return (RAMP * (2**bits - 1)).astype(np.uint32)


def read(path: Path) -> Any:
    return read_image(path).astype(int)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_of_fewer_bits_than_its_samples(tmp_path: Path, bits: int, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(of_bits(bits).astype(np.uint16)).save(path)
    assert np.abs(read(path) - EXPECTED).max() <= 1
    assert read_header(path).deep


@pytest.mark.parametrize("bits", [8, 12, 16, 24, 31])
def test_integers_of_32_bits(tmp_path: Path, bits: int) -> None:
    Image.fromarray(of_bits(bits).astype(np.int32)).save(tmp_path / "i.tiff")
    assert np.abs(read(tmp_path / "i.tiff") - (EXPECTED // 2 if bits == 31 else EXPECTED)).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_colours_of_fewer_bits_than_their_samples(tmp_path: Path, bits: int, suffix: str) -> None:
    values = np.stack([of_bits(bits), of_bits(bits) // 2, of_bits(bits) // 4], axis=2).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"rgb.{suffix}"), values[:, :, ::-1])
    assert np.abs(read(tmp_path / f"rgb.{suffix}") - EXPECTED // [1, 2, 4]).max() <= 1
    assert read_header(tmp_path / f"rgb.{suffix}").deep


def test_a_dark_photo_of_8_bits_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(EXPECTED // 32).save(tmp_path / "dark.png")
    np.testing.assert_array_equal(read_image(tmp_path / "dark.png"), EXPECTED // 32)
    assert not read_header(tmp_path / "dark.png").deep


def test_the_largest_value_that_a_tiff_states(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 2**16 - 1  # MaxSampleValue
    Image.fromarray(of_bits(12).astype(np.uint16)).save(tmp_path / "dark.tiff", tiffinfo=tags)
    assert np.abs(read(tmp_path / "dark.tiff") - EXPECTED // 16).max() <= 1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.5)])
def test_floating_point_from_0_to_1(tmp_path: Path, low: float, high: float) -> None:
    values = (low + RAMP * (high - low)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "f.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tiff")[:, :, 0], (values * 255).round())


@pytest.mark.parametrize("value", [-0.1, 1.5, 220.0, np.nan, np.inf])
def test_floating_point_of_unknown_range(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((3, 4), value, np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match=r"floating-point pixels from .*0 to 1 is read[\s\S]*scale the values to 0 to 1"):
        read_image(tmp_path / "f.tiff")


def test_other_modes(tmp_path: Path) -> None:
    """1 bit, grey with alpha, palette, CMYK."""
    image = Image.fromarray(EXPECTED)
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "d.gif")
    assert np.abs(read(tmp_path / "d.gif") - EXPECTED).max() <= 8
    for mode, name in (("LA", "a.png"), ("CMYK", "b.tiff"), ("YCbCr", "c.tiff"), ("RGBA", "e.png")):
        image.convert(mode).save(tmp_path / name)
        assert np.abs(read(tmp_path / name) - EXPECTED).max() <= 8, mode
    Image.fromarray(RAMP > 0.5).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bit.png")[:, :, 0], (RAMP > 0.5) * 255)


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(EXPECTED).convert("P", palette=Image.Palette.ADAPTIVE)
    for transparency in (0, bytes(range(12))):
        palette.save(tmp_path / "a.png", transparency=transparency)
        assert np.abs(read(tmp_path / "a.png") - EXPECTED).max() <= 8


def test_frames_and_bits_are_counted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "many.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.png")
    Image.fromarray(of_bits(12).astype(np.uint16)).save(tmp_path / "deep.png")
    names = ["many.gif", "one.png", "deep.png", "missing.png"]
    remarks = turned_photos(tmp_path, [BoxedPhoto(name, (0, 0), np.zeros((0, 4))) for name in names]).remarks()
    assert remarks == [
        "only the first frame of 1 animations or files of several pages is read (many.gif for one)",
        "1 images have more than 8 bits per channel: each is scaled by the bits that it uses (deep.png for one)",
    ]
    assert read_image(tmp_path / "many.gif")[0, 0, 0] > 250
