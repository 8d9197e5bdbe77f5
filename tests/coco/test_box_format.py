"""Boxes in another format than COCO's are recognised from all boxes of a file, and data sets as they should be never are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cis_seg.coco.boxes import FEW, check_format
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import read_coco
from cis_seg.errors import DataError

SIZE = (480, 640)
FILES = ("cis/CIS.json", "coco_people/instances_train.json", "coco_mini/annotations/instances_val2017.json")


def people(count: int, seed: int = 0, beyond: float = 0.0) -> NDArray[np.float64]:
    """Boxes (count, 4) xywh, standing upright anywhere in an image of ``SIZE``, clipped ``beyond`` pixels outside of it."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(30, 400, count)
    centre, size = rng.uniform((0, 0), SIZE[::-1], (count, 2)), np.stack([height * rng.uniform(0.3, 0.6, count), height], axis=1)
    first = (centre - size / 2).clip(-beyond)
    last = (centre + size / 2).clip(None, np.array(SIZE[::-1]) + beyond)
    return np.concatenate([first, last - first], axis=1)


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def check(boxes: NDArray[np.float64]) -> str | None:
    return check_format(boxes.tolist(), [SIZE] * len(boxes), Path("boxes.json"))


@pytest.mark.parametrize("seed", range(5))
def test_corners_are_rejected_in_a_whole_file_and_reported_in_a_few_boxes(seed: int) -> None:
    with pytest.raises(DataError, match=r"look like corners(.|\n)*boxes.json(.|\n)*\[x, y, width, height\](.|\n)*width = x1 - x0"):
        check(corners(people(200, seed)))
    assert (note := check(corners(people(12, seed)))) is not None
    assert note.startswith("the boxes may be corners")
    assert check(corners(people(FEW - 1, seed))) is None


def test_fractions_of_the_image_are_refused() -> None:
    with pytest.raises(DataError, match=r"normalised to 0\.\.1(.|\n)*multiply x and width by the image's width"):
        check(people(2) / np.array([640, 480, 640, 480]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beyond", [0, 300])  # full bodies leave the image
def test_valid_boxes_pass(seed: int, beyond: float) -> None:
    for count in (1, 5, 12, 500):
        assert check(people(count, seed, beyond)) is None


@pytest.mark.parametrize(
    "boxes",
    [
        np.array([[10, 20, 600, 440]] * 50),  # one large instance in the middle of every image
        np.array([[0, 0, 640, 480]] * 50),
        np.array([[-30, -30, 700, 540]] * 50),  # and beyond all edges
        np.array([[0, 0, 0, 0]] * 50),
        np.zeros((0, 4)),
    ],
)
def test_unusual_boxes_pass(boxes: NDArray[np.float64]) -> None:
    assert check(boxes) is None


@pytest.mark.parametrize("name", FILES)
def test_real_files_pass_and_are_rejected_as_corners(shared_data: Path, name: str) -> None:
    file = read_coco(shared_data / name, Needs(file_names=False))
    assert file.notes == []
    boxes = corners(np.array([a.box for a in file.annotations if not a.crowd]))
    with pytest.raises(DataError, match="look like corners"):
        check_format(boxes.tolist(), [file.image_size(a.image_id) for a in file.annotations if not a.crowd], file.path)
