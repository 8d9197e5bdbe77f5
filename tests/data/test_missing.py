"""A missing image: the message names the spelling looked for and a near file."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from cis_seg.coco.near_files import near_file
from cis_seg.data.coco import CocoDataset
from cis_seg.data.image_files import missing_image
from cis_seg.errors import DataError
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities

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
        ("b.jpg", "a.jpg", None),
        ("a.jpg", "b/../a.gif/..", None),
    ],
)
def test_near_file(tmp_path: Path, existing: str, name: str, difference: str | None) -> None:
    (tmp_path / existing).parent.mkdir(exist_ok=True)
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
