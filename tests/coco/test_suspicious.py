"""Files whose entries are valid, but probably not meant: one warning per kind when a run reads them, and none for real data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cis_seg.coco.reader import read_coco

Json = dict[str, Any]


def outline(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def content() -> Json:
    """Two images of 100 x 80 with six people each."""
    boxes = [[float(x), float(y), 12.0, 20.0] for x in (5, 35, 65) for y in (8, 45)]
    shapes = [{"bbox": box, "segmentation": outline(*box), "iscrowd": 0, "category_id": 1} for box in boxes]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 80, "width": 100} for i in (1, 2)],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 6 * i + place, "image_id": i, **shape} for i in (1, 2) for place, shape in enumerate(shapes)],
    }


def warned(folder: Path, changed: Json, caplog: pytest.LogCaptureFixture) -> list[str]:
    (folder / "train.json").write_text(json.dumps(changed))
    for _ in range(2):  # a file is read for training and for scoring
        read_coco(folder / "train.json")
    return [record.getMessage() for record in caplog.records]


def twice(entries: list[Json]) -> None:
    entries += [entry | {"id": entry["id"] + 100} for entry in entries]


def rotated(entries: list[Json]) -> None:
    entries[3] |= {"attributes": {"occluded": False, "rotation": 330.5}, "segmentation": []}


def beside(entries: list[Json]) -> None:
    entries[4]["bbox"] = [20, 8, 12, 20]


def run_length(entries: list[Json]) -> None:
    entries[4] |= {"bbox": [20, 8, 12, 20], "segmentation": {"size": [80, 100], "counts": [6400, 80, 1520]}}


def shifted(entries: list[Json]) -> None:
    for entry in entries:
        entry["bbox"] = [entry["bbox"][0] + 5, entry["bbox"][1] + 5, *entry["bbox"][2:]]


def far_outside(entries: list[Json]) -> None:
    entries[0] |= {"bbox": [90, 70, 60, 60], "segmentation": []}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twice, "12 annotations repeat the box and class of another one in their image, and each counts as an instance; delete the copies "
                "(annotation 6/106 of image 1: the box [5.0, 8.0, 12.0, 20.0])"),
        (rotated, "1 annotations are rotated (attributes.rotation, as CVAT writes it)"),
        (rotated, "(annotation 9 of image 1: rotated by 330.5 degrees)"),
        (beside, "1 of 12 boxes do not match their own masks, 1 do not even touch them; annotation 10 of image 1 has the box "
                 "[20, 8, 12, 20] and a mask in [65.0, 8.0, 12.0, 20.0]"),
        (run_length, "annotation 10 of image 1 has the box [20, 8, 12, 20] and a mask in [80.0, 0.0, 1.0, 80.0]"),
        (shifted, "12 of 12 boxes do not match their own masks, 0 do not even touch them"),
        (far_outside, "8 % of the boxes have more than three quarters of their area outside their image ([90.0, 70.0, 60.0, 60.0])"),
    ],
)  # fmt: skip
def test_suspicious_annotations_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[list[Json]], None], words: str
) -> None:
    changed = content()
    change(changed["annotations"])
    (message,) = warned(tmp_path, changed, caplog)
    assert message.startswith(f"{tmp_path}/train.json: ")
    assert words in message


@pytest.mark.parametrize("name", ["1.jpg", "./1.jpg"])
def test_a_file_under_two_ids_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    changed = content()
    changed["images"][1]["file_name"] = name
    (message,) = warned(tmp_path, changed, caplog)
    assert "1 images are listed again under another id" in message
    assert message.endswith(f"(image 2: {name!r} is image 1 too)")


def unlike(entry: Json) -> None:
    entry |= {"category_id": 2}


def crowd(entry: Json) -> None:
    entry |= {"iscrowd": 1}


def no_area(entry: Json) -> None:
    entry |= {"bbox": [5, 8, 0, 20]}


def outside(entry: Json) -> None:
    entry |= {"bbox": [200, 8, 12, 20]}


def half_turn(entry: Json) -> None:
    entry |= {"bbox": [20, 8, 12, 20], "segmentation": [], "attributes": {"rotation": 180.0}}


def around_its_mask(entry: Json) -> None:
    entry |= {"bbox": [20, 8, 12, 20], "segmentation": outline(20, 8, 12, 19.5), "attributes": {"rotation": 30.0}}


@pytest.mark.parametrize("change", [unlike, crowd, no_area, outside, half_turn, around_its_mask])
def test_nothing_suspicious_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Json], None]) -> None:
    """Another class at the same place, an ignore region, boxes that are left out and counted anyway, and rotations that change no box."""
    changed = content()
    changed["annotations"].append(changed["annotations"][0] | {"id": 99})
    change(changed["annotations"][-1])
    assert warned(tmp_path, changed, caplog) == []
