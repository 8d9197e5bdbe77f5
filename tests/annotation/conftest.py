"""A job of two images of 60 x 80, and exports of it as tools write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotation_job import NAMES, PEOPLE, REGION, rectangle
from cis_seg.annotation.job import Job, job_content, read_job

Content = dict[str, Any]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Persons 1 to 3 and region 4 in the first image, persons 5 and 6 in the second."""
    first, second, other = 0, 7, 9  # lines of the split; the last is not taken
    places = [(first, PEOPLE[1]), (first, PEOPLE[2]), (first, PEOPLE[3]), (first, REGION)]
    places += [(second, PEOPLE[5]), (second, PEOPLE[6]), (other, PEOPLE[1])]
    names = {first: NAMES[0], second: NAMES[1], other: "left.jpg"}
    content = {
        "images": [{"id": line, "file_name": name, "height": 60, "width": 80} for line, name in names.items()],
        "annotations": [{"image_id": i, "bbox": box, "area": box[2] * box[3], "iscrowd": int(box == REGION)} for i, box in places],
    }
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job_content(content, {0, 7}, "made for a test")))
    return read_job(path)


@pytest.fixture
def export_content() -> Content:
    """Everybody outlined by a rectangle a pixel inside their box, numbered and named as Label Studio does."""
    outlines = {number: [x + 1, y + 1, w - 2, h - 2] for number, (x, y, w, h) in PEOPLE.items()}
    return {
        "info": {},
        "categories": [{"id": 0, "name": "person"}],
        "images": [
            {"id": 0, "file_name": "images\\1/90fbb0c7-273275aa01.jpg", "height": 60, "width": 80},
            {"id": 1, "file_name": "images/273271,c9db.jpg", "height": 60, "width": 80},
        ],
        "annotations": [
            {
                "id": place,
                "image_id": int(number < 5),
                "category_id": 0,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [rectangle(*box)],
            }
            for place, (number, box) in enumerate(outlines.items())
        ],
    }


@pytest.fixture
def write_export(tmp_path: Path) -> Callable[..., Path]:
    """Writes an export: ``write_export(content, "a.json")``."""

    def write(content: Content, name: str = "export.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write
