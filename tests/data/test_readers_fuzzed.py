"""Property tests: whatever stands in an annotation file, a reader reads it or says what is wrong, and drops nobody in silence."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.data.coco import CocoDataset
from cis_seg.data.crowdhuman import CrowdHumanDataset
from cis_seg.errors import UserError
from cis_seg.inspection.contents import read_contents
from cis_seg.inspection.oddities import find_oddities
from cis_seg.inspection.statistics import statistics

BOX = [4, 5, 10, 12]
PERSON = {"tag": "person", "vbox": BOX, "fbox": BOX, "hbox": BOX, "head_attr": {"ignore": 0}, "extra": {"box_id": 0, "occ": 0}}
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "height": 24, "width": 32} for i in (0, 1)],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {"id": i, "image_id": i % 2, "category_id": 1, "bbox": BOX, "area": 120, "iscrowd": 0, "segmentation": [[4, 5, 14, 5, 14, 17]]}
        for i in range(4)
    ],
}

#: what JSON can hold where something else was expected
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [float("nan"), float("inf"), -1, 0, 1e300, 10**30, 2**63, 10**400, -(10**9), 0.5, "", "\ud800", "a\0b", "../x", "27,a"]
    ),
    st.sampled_from([[], {}, [1], [[]], [[1, 2]], [[1, 2, 3, 4, 5]], [[float("nan")] * 6], [[1e9] * 6], {"size": [24, 32], "counts": [1]}]),
    st.sampled_from([{"size": [24, 32], "counts": "é"}, {"size": "x", "counts": 3}, {"counts": "x"}, {"ignore": "1"}, [-3, -3, 4, 4]]),
    st.integers(),
    st.text(max_size=5),
)


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("0", "1", "27,a", "27,b"):
            Image.new("RGB", (32, 24)).save(Path(folder) / f"{name}.jpg")
        yield Path(folder)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value at which something else could stand."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [*([path] if path else []), *(place for key, value in inner for place in places(value, (*path, key)))]


def assert_names(error: UserError, where: str) -> None:
    assert where in str(error)


def damaged(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    tree = json.loads(json.dumps(tree))  # nothing in it is shared
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return tree


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(COCO)), value=ODD_VALUES)
def test_corrupted_coco_json_is_read_or_rejected(images: Path, place: tuple[Any, ...], value: Any) -> None:
    path = written(images, "coco.json", damaged(COCO, place, value))
    try:
        data = CocoDataset(path, images, keep_empty=True, load_masks=True)
    except UserError as error:
        assert_names(error, "coco.json")
    else:
        records = data.records
        if place[0] == "annotations" and len(place) > 1 and not {"bbox", "iscrowd"} & set(place):
            assert len(records.boxes) == 4  # a person whose box is sound is there
        for index in range(len(data)):
            try:
                data.sample(index)
            except UserError as error:
                assert_names(error, str(images))


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(places(COCO)), value=ODD_VALUES)
def test_corrupted_ground_truth_is_read_or_rejected(images: Path, place: tuple[Any, ...], value: Any) -> None:
    path = written(images, "truth.json", damaged(COCO, place, value))
    try:
        truth = GroundTruth(path)
    except UserError as error:
        assert_names(error, "truth.json")
    else:
        assert len(truth.annotations) == (len(value) if place == ("annotations",) else 4)


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(places(COCO)), value=ODD_VALUES)
def test_check_continues_after_an_invalid_entry(images: Path, place: tuple[Any, ...], value: Any) -> None:
    path = written(images, "checked.json", damaged(COCO, place, value))
    if len(place) == 1 and not (isinstance(value, list) and all(isinstance(entry, dict) for entry in value)):
        return  # no lists of objects: no COCO json at all
    if len(place) == 2 and not isinstance(value, dict):
        return
    contents = read_contents(path, images)
    find_oddities(contents, pixels=True)
    json.dumps(statistics(contents))
    total = len(value) if place == ("annotations",) else 4
    # a line of its own for an invalid annotation; those of an invalid image or category are counted in its line
    lines = [oddity.detail for oddity in contents.oddities if oddity.kind == "unusable"]
    counted = sum(int(also[1]) if (also := re.search(r"; (\d+) annotations of it are left out too", line)) else 1 for line in lines)
    assert len(contents.annotations) + counted >= total


RECORDS = [{"ID": f"27,{name}", "gtboxes": [PERSON, {**PERSON, "tag": "mask", "extra": {"ignore": 1}}]} for name in "ab"]


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(RECORDS)), value=ODD_VALUES, kind=st.sampled_from(["visible", "full", "head"]))
def test_corrupted_record_is_read_or_listed(images: Path, place: tuple[Any, ...], value: Any, kind: Any) -> None:
    path = images / "fuzzed.odgt"
    path.write_text("\n".join(json.dumps(record) for record in damaged(RECORDS, place, value)))
    data = CrowdHumanDataset(path, images, boxes=kind, keep_empty=True, max_faulty=1)
    left_out = {fault.where for fault in data.faults}
    assert len(data) + len(left_out) == 2
    assert all("line" in where for where in left_out)


@settings(max_examples=100, deadline=None)
@given(
    line=st.one_of(st.binary(max_size=60), st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"ID": 3}', b"\xff", b"{}", b"NaN", b"null"]))
)
def test_invalid_line_is_listed_and_the_others_are_read(images: Path, line: bytes) -> None:
    path = images / "lines.odgt"
    line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    path.write_bytes(b"\n".join([line, json.dumps(RECORDS[0]).encode()]))
    data = CrowdHumanDataset(path, images, max_faulty=1)
    assert data.image_ids == [1]
    assert len(data.faults) == bool(line.strip())
