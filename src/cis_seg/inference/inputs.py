"""Which files a person means: one image or video, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cis_seg.errors import DataError, listing

log = logging.getLogger(__name__)

# What a folder or a pattern is searched for. HEIC is among them so that a phone's folder reports its files as unreadable
# instead of passing over them in silence.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True)
class Source:
    """One input file."""

    path: Path
    file_name: str  # with forward slashes, relative to the folder that holds all inputs; different for every source

    @property
    def is_video(self) -> bool:
        """By its suffix; everything else is opened as an image, whatever it is called."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(text: str, *, leave_out: Path) -> list[Source]:
    """The files that ``text`` names, in the order of their names.

    What exists under that very name is taken literally, so brackets and asterisks in names do no harm: a file, whatever
    its suffix, or the images and videos that lie directly in a folder. Anything else is a pattern of ``glob`` (``*``,
    ``?``, ``[...]``, and ``**`` for all folders below). Folders and patterns skip files of other suffixes and hidden files.

    Args:
        text: file, folder or pattern.
        leave_out: the output folder: what lies there was written by an earlier prediction, unless all inputs do.

    Raises:
        DataError: there is no such thing, or no image or video in it.
    """
    path = Path(text).expanduser()
    if not path.is_dir() and os.path.lexists(path):
        return [Source(path, path.name)]
    root = next(folder for folder in [path, *path.parents] if folder.is_dir())  # brackets in the names of real folders are no pattern
    pattern = "*" if root == path else str(path.relative_to(root))
    there = {_straight(root, found) for found in glob.glob(pattern, root_dir=root, recursive=True)}
    own = leave_out.resolve()
    if own in [root.resolve(), *root.resolve().parents]:
        files = sorted(file for file in there if not file.is_dir())
    else:
        files = sorted(file for file in there if not file.is_dir() and own not in file.resolve().parents)
    kept = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES]
    if not kept:
        raise _nothing(path, files)
    if len(kept) < len(files):
        log.info("%s: passed over %s", path, _kinds([file for file in files if file not in kept]))
    base = os.path.commonpath([file.parent.absolute() for file in kept])
    return [Source(file, file.absolute().relative_to(base).as_posix()) for file in kept]


def _straight(root: Path, found: str) -> Path:
    """What a pattern found in ``root``; where the pattern goes up again (``*/../*``) by its real folder, for outputs are named like it."""
    path = root / found
    return path.parent.resolve() / path.name if ".." in path.relative_to(root).parts else path


def _nothing(path: Path, files: Sequence[Path]) -> DataError:
    is_folder = path.is_dir()
    home = path if is_folder else path.parent
    return DataError(
        "there is no image or video in this folder" if is_folder else "there is no such file, folder or match of a pattern",
        where=f"input={path}",
        expected="an image, a video, a folder of them, or a pattern such as 'photos/**/*.jpg'",
        found=_kinds(files) if files else f"in {home}: {listing(home)}",
        remedy="folders are not searched below their first level; a pattern with ** is" if is_folder else "check the path",
    )


def _kinds(files: Sequence[Path]) -> str:
    """3 files of other kinds (2 .txt, 1 .json)"""
    counts = Counter(file.suffix.lower() or "no suffix" for file in files)
    return f"{len(files)} files of other kinds ({', '.join(f'{count} {suffix}' for suffix, count in counts.most_common(6))})"
