"""Image files: sizes, EXIF orientation and frames from their headers; truncated, missing and differently spelled ones."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cis_seg.coco.file_names import near_file
from cis_seg.data.coco import CocoDataset
from cis_seg.data.image_files import faulty_images, missing_image, read_header
from cis_seg.data.images import read_image
from cis_seg.errors import DataError
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities

WritePhoto = Callable[..., Path]


def turned(path: Path, orientation: int) -> Path:
    """A photo of 20 x 30 stored pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5, :5] = 255  # the corner at the top left
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


#: orientation -> corner (bottom, right) of an upright photo where the stored top left corner lies
CORNERS = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = turned(tmp_path / f"photo.{suffix}", orientation)
    header = read_header(path)
    assert (header.stored, header.orientation) == ((20, 30), orientation)
    stored, upright = read_image(path), read_image(path, exif="apply")
    assert stored.shape[:2] == header.size("ignore") == (20, 30)
    assert upright.shape[:2] == header.size("apply") == ((30, 20) if orientation >= 5 else (20, 30))
    bottom, right = CORNERS[orientation]
    assert stored[:3, :3].min() > 200
    assert upright[-bottom or 0, -right or 0].min() > 200


@pytest.mark.parametrize("exif", [0, 9])
def test_invalid_orientation_is_ignored(tmp_path: Path, exif: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = exif
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=tags)
    assert read_header(tmp_path / "a.jpg").orientation == 1


def test_corrupt_exif_data_is_ignored_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0")
    script = f"from cis_seg.data.images import read_image; print(read_image({str(path)!r}, exif='apply').shape)"
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(20, 30, 3)\n", "")


def test_floating_point_images_are_not_counted_as_deep(tmp_path: Path) -> None:
    Image.new("F", (8, 8)).save(tmp_path / "float.tiff")
    Image.new("I;16", (8, 8)).save(tmp_path / "grey.png")
    assert [read_header(tmp_path / name).deep for name in ("float.tiff", "grey.png")] == [False, True]


def test_tiff_orientation_is_applied_by_pillow(tmp_path: Path) -> None:
    """Pillow turns it when it is read, so that no option can keep the stored pixels."""
    path = turned(tmp_path / "photo.tiff", 6)
    assert read_header(path)[:2] == ((30, 20), 1)
    assert read_image(path).shape == read_image(path, exif="apply").shape == (30, 20, 3)


def test_animations(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix in ("gif", "png", "webp", "tiff"):
        frames[0].save(tmp_path / f"many.{suffix}", save_all=True, append_images=frames[1:])
        frames[0].save(tmp_path / f"one.{suffix}")
        assert read_header(tmp_path / f"many.{suffix}").animated
        assert not read_header(tmp_path / f"one.{suffix}").animated


def test_faulty_images(tmp_path: Path, write_photo: WritePhoto) -> None:
    for name in ("whole.jpg", "whole.png", "whole.bmp", "trailing.jpg", "short.jpg", "short.png", "short.bmp", "other.jpg"):
        write_photo(tmp_path / name, height=48, width=64)
    for name in ("short.jpg", "short.png", "short.bmp"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with (tmp_path / "trailing.jpg").open("ab") as file:
        file.write(b"appended by a camera")
    (tmp_path / "text.jpg").write_text("404")
    images = [(path.name, (48, 64)) for path in sorted(tmp_path.iterdir()) if path.name != "other.jpg"]
    found = faulty_images(
        tmp_path, [*images, ("other.jpg", (64, 64)), ("gone.jpg", (48, 64)), ("x" * 300, (1, 1))], Path("val.json"), "ignore"
    )
    problems = {path.name[:10]: error.problem for path, error in found.items()}
    assert problems == {
        "short.bmp": "short.bmp cannot be read as an image",
        "short.jpg": "short.jpg cannot be read as an image",
        "short.png": "short.png cannot be read as an image",
        "text.jpg": "text.jpg cannot be read as an image",
        "other.jpg": "the size of other.jpg does not match its annotations",
        "gone.jpg": "image gone.jpg is missing",
        "x" * 10: f"image {'x' * 300} is missing",
    }


def test_a_file_that_the_system_cannot_read_is_listed(tmp_path: Path, write_photo: WritePhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a missing permission nor a failing disk stops the check of the others."""
    path = write_photo(tmp_path / "a.jpg")

    def fail(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("cis_seg.data.image_files._ends_well", fail)
    (error,) = faulty_images(tmp_path, [("a.jpg", (24, 32))], Path("val.json"), "ignore").values()
    assert error.problem == "a.jpg cannot be read as an image"
    assert f"Permission denied: '{path}'" in str(error)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_photo(tmp_path: Path, orientation: int) -> None:
    """The message names EXIF and the option if the sizes agree after the turn."""
    turned(tmp_path / "photo.jpg", orientation)
    for exif, other, size, wrong in (("ignore", "apply", (20, 30), (30, 20)), ("apply", "ignore", (30, 20), (20, 30))):
        if exif == "apply" and orientation < 5:
            continue
        assert faulty_images(tmp_path, [("photo.jpg", size), ("photo.jpg", (0, 0))], Path("a.json"), exif) == {}
        (error,) = faulty_images(tmp_path, [("photo.jpg", wrong)], Path("a.json"), exif).values()
        assert (f"EXIF orientation {orientation}" in str(error)) == (orientation >= 5)
        assert (f"data.exif={other}" in str(error)) == (orientation >= 5)


def test_a_whole_image_is_not_decoded(tmp_path: Path, write_photo: WritePhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "a.jpg", height=480, width=640)
    monkeypatch.setattr("cis_seg.data.image_files.read_image", lambda *_, **__: pytest.fail("decoded"))
    assert faulty_images(tmp_path, [("a.jpg", (480, 640))] * 3, Path("a.json"), "ignore") == {}


def test_text_file_has_no_image_header(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_header(tmp_path / "a.jpg")


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("existing", "name", "difference"),
    [
        ("a.jpg", "a.JPG", "upper and lower case"),
        ("a.JPG", "a.jpg", "upper and lower case"),
        ("a.png", "a.jpg", "the extension"),
        ("train/a.jpg", "train\\a.jpg", "backslashes as separators"),
        ("with space.jpg", "with%20space.jpg", "% codes"),
        ("with space.jpg", "train\\with%20space.JPG", "backslashes as separators and % codes and the folder and upper and lower case"),
        (COMPOSED, DECOMPOSED, "the Unicode form of its accents (composed or decomposed)"),
        (DECOMPOSED, COMPOSED, "the Unicode form of its accents (composed or decomposed)"),
        ("a.jpg", "images/a.jpg", "the folder"),
        ("Train/a.jpg", "train/a.jpg", "upper and lower case"),
        ("a.jpg", "..\\..\\media\\upload\\a.jpg", "backslashes as separators and the folder"),
        ("Train/Data/a.jpg", "a.jpg", "the folder"),
        ("b.jpg", "a.jpg", None),
        ("a.jpg", "b/../a.gif/..", None),
    ],
)
def test_near_file(tmp_path: Path, existing: str, name: str, difference: str | None) -> None:
    (tmp_path / existing).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / existing).write_bytes(b"")
    near = near_file(tmp_path, name)
    assert near == (None if difference is None else (existing, difference))


def test_the_message(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(b"")
    message = str(missing_image(tmp_path, "a.jpg", "train.json"))
    for words in (f"{tmp_path}/a.jpg", "'a.JPG' exists, which differs in upper and lower case", "train.json", "data.images"):
        assert words in message
    assert "in the extension" not in str(missing_image(tmp_path, "c.jpg", "train.json"))
    (tmp_path / "c.png").write_bytes(b"")
    assert "'c.png' exists, which differs in the extension" in str(missing_image(tmp_path, "c.jpg", "train.json")), (
        "the folder is read again"
    )


def test_the_message_names_the_folder_below(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    (tmp_path / "Train" / "a.jpg").write_bytes(b"")
    message = str(missing_image(tmp_path, "a.jpg", "train.json"))
    assert f"set the image folder (data.images, or data.val_images for the scored set) to {tmp_path}/Train" in message


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert near_file(tmp_path / "nowhere", "a.jpg") is None


def test_training_and_the_check_name_the_near_file(coco_content: dict, write_coco: Callable[..., tuple[Path, Path]]) -> None:  # type: ignore[type-arg]
    path, images = write_coco(coco_content)
    for photo in list(images.iterdir()):
        photo.rename(photo.with_suffix(".JPG"))
    with pytest.raises(DataError, match=r"3\.jpg is missing|7\.jpg is missing") as error:
        CocoDataset(path, images)
    assert "upper and lower case" in str(error.value)
    contents = read_contents(path, images)
    find_oddities(contents, pixels=True)
    missing = [oddity.detail for oddity in contents.oddities if oddity.kind == "missing_image"]
    assert len(missing) == len(coco_content["images"])
    assert all("upper and lower case" in detail for detail in missing)
