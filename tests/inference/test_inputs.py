"""What a person means by a path: a file, a folder, a pattern."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cis_seg.errors import DataError
from cis_seg.inference.inputs import find_sources

NAMES = ["b.JPG", "a.png", "clip.mp4", "[1], x = y.jpg", "notes.txt", ".hidden.jpg", "deep/c.jpg", "deep/er/a.png", "out/a.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(text: object, folder: Path) -> list[str]:
    return [source.file_name for source in find_sources(str(text), leave_out=folder / "out")]


def test_a_folder_gives_its_images_and_videos(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert names(folder, folder) == ["[1], x = y.jpg", "a.png", "b.JPG", "clip.mp4"]
    assert "1 files of other kinds (1 .txt)" in caplog.text
    assert [s.is_video for s in find_sources(str(folder), leave_out=folder / "out")] == [False, False, False, True]


def test_explicit_file_is_accepted_under_any_name(folder: Path) -> None:
    assert names(folder / "[1], x = y.jpg", folder) == ["[1], x = y.jpg"]
    assert names(folder / "notes.txt", folder) == ["notes.txt"]


def test_recursive_pattern_excludes_the_output_folder(folder: Path) -> None:
    assert names(folder / "**" / "*.png", folder) == ["a.png", "deep/er/a.png"]
    assert names(folder / "deep" / "*", folder) == ["c.jpg"]
    assert names(folder / "[ab].*", folder) == ["a.png", "b.JPG"]


def test_dangling_link_is_reported(folder: Path) -> None:
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    assert "lost.jpg" in names(folder, folder)


def test_brackets_in_real_folder_names_are_not_a_pattern(folder: Path) -> None:
    (folder / "deep").rename(folder / "trip [2026]")
    assert names(folder / "trip [2026]" / "**" / "*.[jp]*", folder) == ["c.jpg", "er/a.png"]
    assert names(folder / "trip [2026]", folder) == ["c.jpg"]


def test_inputs_inside_the_output_folder_are_inputs(folder: Path) -> None:
    assert names(folder / "out" / "*", folder) == ["a.png"]


@pytest.mark.parametrize(
    ("text", "said"), [("nowhere", "a.png"), ("*.tiff", "a.png"), ("empty", "1 .md"), ("no/such/place", "no such folder")]
)
def test_nothing_found(folder: Path, text: str, said: str) -> None:
    (folder / "empty").mkdir()
    (folder / "empty" / "readme.md").touch()
    with pytest.raises(DataError, match=text.replace("*", r"\*")) as stop:
        find_sources(str(folder / text), leave_out=folder / "out")
    assert said in str(stop.value)
