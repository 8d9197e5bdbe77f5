"""File names of results and of folders, matched with the images of a COCO json."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.coco.file_names import match_file_names
from cis_seg.errors import DataError


def match(names: list[str], images: list[str | None]) -> dict[str, int]:
    entries = {number: {} if name is None else {"file_name": name} for number, name in enumerate(images, start=10)}
    return match_file_names(names, entries, source=Path("val.json"), where="results.json")


@pytest.mark.parametrize(
    ("names", "images", "found"),
    [
        (["b.jpg", "c.jpg"], ["c.jpg", "a.jpg", "b.jpg"], {"b.jpg": 12, "c.jpg": 10}),
        (["val/a.jpg"], ["a.jpg"], {"val/a.jpg": 10}),  # the folder above was predicted
        (["a.jpg"], ["val/b.jpg", "val/a.jpg"], {"a.jpg": 11}),  # the folder below was predicted
        (["1/a.jpg", "2/a.jpg"], ["x/2/a.jpg", "x/1/a.jpg"], {"1/a.jpg": 11, "2/a.jpg": 10}),
        (["a.jpg", "s/a.jpg"], ["a.jpg", "s/a.jpg"], {"a.jpg": 10, "s/a.jpg": 11}),  # the same folder: whole paths
        (["photos/a.jpg", "ba.jpg", ""], ["val/a.jpg", "a.jpeg", None], {}),
        ([r".\val\a.jpg"], ["val/a.jpg"], {r".\val\a.jpg": 10}),
        (["e\u0301.jpg"], ["\u00e9.jpg"], {"e\u0301.jpg": 10}),
    ],
)
def test_results_are_matched_to_images_by_name(names: list[str], images: list[str | None], found: dict[str, int]) -> None:
    assert match(names, images) == found


@pytest.mark.parametrize(
    ("names", "images", "said"),
    [
        (["a.jpg", "b.jpg"], ["s/b.jpg", "s/a.jpg", "a.jpg"], "'a.jpg' matches 2 images: s/a.jpg, a.jpg"),
        (["a.jpg"], ["1/a.jpg", "2/a.jpg"], "'a.jpg' matches 2 images"),
        (["a.jpg"], ["a.jpg", "a.jpg"], "'a.jpg' matches 2 images"),
        (["1/a.jpg", "2/a.jpg"], ["a.jpg"], "'1/a.jpg' and '2/a.jpg' match one image: a.jpg"),
    ],
)
def test_ambiguous_names_are_refused(names: list[str], images: list[str | None], said: str) -> None:
    with pytest.raises(DataError) as raised:
        match(names, images)
    assert said in str(raised.value)
