"""Small data sets written to disk for the tests of the data path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Content = dict[str, Any]


def _photo(seed: int, height: int, width: int) -> Image.Image:
    """Smooth colours, so that JPEG compression changes little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def write_photo() -> Callable[..., Path]:
    """Writes a small photograph: ``write_photo(path, seed=0, height=24, width=32)``."""

    def write(path: Path, *, seed: int = 0, height: int = 24, width: int = 32) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        _photo(seed, height, width).save(path)
        return path

    return write


@pytest.fixture
def coco_content() -> Content:
    """Three images of 24 x 32: two persons and a crowd; a dog and a person; nothing."""

    def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> Content:
        x, y, w, h = box
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        return {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, "segmentation": [polygon], **more}

    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 24, "width": 32} for i in (7, 3, 9)],
        "annotations": [
            annotation(1, 7, 5, [2, 3, 10, 12]),
            annotation(2, 7, 5, [20, 10, 20, 20]),  # leaves the image right and at the bottom
            annotation(3, 7, 5, [0, 0, 30, 20], iscrowd=1, segmentation={"size": [24, 32], "counts": [0, 700, 68]}),
            annotation(4, 3, 90, [1, 1, 8, 8]),
            annotation(5, 3, 5, [4, 4, 6, 9]),
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "person"}],
    }


@pytest.fixture
def write_coco(tmp_path: Path, write_photo: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Writes a COCO json and its images: ``write_coco(content, name="train")`` -> (json, image folder)."""

    def write(content: Content, name: str = "train") -> tuple[Path, Path]:
        images = tmp_path / f"{name}2017"
        images.mkdir()
        for place, image in enumerate(content["images"]):
            if isinstance(image.get("file_name"), str) and not Path(image["file_name"]).is_absolute():
                write_photo(images / image["file_name"], seed=place)
        path = tmp_path / "annotations" / f"instances_{name}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return path, images

    return write


@pytest.fixture
def odgt_records() -> list[Content]:
    """Three records in CrowdHuman's form: two people, an ignored one and a ignore region; one person; nobody."""

    def person(visible: list[int], full: list[int], **extra: int) -> Content:
        return {"tag": "person", "vbox": visible, "fbox": full, "hbox": visible, "head_attr": {"ignore": 1}, "extra": {"occ": 0, **extra}}

    region = [25, 0, 5, 5]
    return [
        {
            "ID": "27,a",
            "gtboxes": [
                person([-1, 3, 9, 12], [-4, 2, 14, 30]),
                person([12, 5, 8, 10], [12, 5, 8, 15]),
                person([20, 5, 4, 4], [20, 5, 4, 8], ignore=1),
                {"tag": "mask", "vbox": region, "fbox": region, "hbox": region, "head_attr": {}, "extra": {"ignore": 1}},
            ],
        },
        {"ID": "27,b", "gtboxes": [person([1, 1, 10, 10], [1, 1, 10, 20])]},
        {"ID": "27,c", "gtboxes": []},
    ]


@pytest.fixture
def write_odgt(tmp_path: Path, write_photo: Callable[..., Path]) -> Callable[..., tuple[Path, Path]]:
    """Writes an ``.odgt`` and its images: ``write_odgt(records)`` -> (odgt, image folder)."""

    def write(records: list[Content]) -> tuple[Path, Path]:
        images = tmp_path / "Images"
        for place, record in enumerate(records):
            if ".." not in str(record.get("ID")):
                write_photo(images / f"{record.get('ID')}.jpg", seed=place)
        path = tmp_path / "annotation_train.odgt"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path, images

    return write
