"""The input files of a prediction: one image or video, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cis_seg.coco.file_names import match_file_names
from cis_seg.coco.reader import CocoFile
from cis_seg.data.images import IMAGE_SUFFIXES
from cis_seg.errors import DataError, listing

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True)
class Source:
    """One input file."""

    path: Path
    file_name: str  # unique, relative to the common folder of all inputs, with forward slashes
    image_id: int | None = None  # of a COCO json; None: its images are numbered

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video; any other file is opened as an image."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(text: str, *, leave_out: Path | None = None) -> list[Source]:
    """Return the files that ``text`` refers to, sorted by name.

    An existing path is taken literally, even with brackets or asterisks in its name: a file of any suffix, or the images and videos
    directly in a folder. Anything else is a ``glob`` pattern (``*``, ``?``, ``[...]``, and ``**`` for all subfolders). Folders and
    patterns skip hidden files and files of other suffixes.

    Args:
        text: file, folder or pattern.
        leave_out: the output folder; its files are results of an earlier prediction and skipped, unless all inputs are in it.

    Raises:
        DataError: nothing matches, or no match is an image or a video.
    """
    path = Path(text).expanduser()
    if not path.is_dir() and os.path.lexists(path):
        return [Source(path, path.name)]
    root = next(folder for folder in [path, *path.parents] if folder.is_dir())  # brackets in existing folder names are not a pattern
    pattern = "*" if root == path else str(path.relative_to(root))
    matches = {_straight(root, found) for found in glob.glob(pattern, root_dir=root, recursive=True)}
    files = sorted(file for file in matches if not file.is_dir())
    own = None if leave_out is None else leave_out.resolve()
    if own not in [root.resolve(), *root.resolve().parents]:
        files = [file for file in files if own not in file.resolve().parents]
    kept = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES]
    if not kept:
        raise _nothing(path, files)
    if len(kept) < len(files):
        log.info("%s: skipped %s", path, _kinds([file for file in files if file not in kept]))
    base = os.path.commonpath([file.parent.absolute() for file in kept])
    return [Source(file, file.absolute().relative_to(base).as_posix()) for file in kept]


def listed_sources(sources: Sequence[Source], file: CocoFile) -> list[Source]:
    """Return the sources that are images of ``file``, with their image ids.

    Raises:
        DataError: no image of the file, or ambiguous names.
    """
    ids = match_file_names([source.file_name for source in sources], file.images, source=file.path, where="input")
    if not ids:
        raise DataError(
            "no input is an image of the annotation file",
            where=f"annotations={file.path}",
            expected=f"file names such as {next((str(image['file_name']) for image in file.images.values()), 'none: it has no images')}",
            found=f"{sources[0].file_name}{' ...' if len(sources) > 1 else ''}",
            remedy="pass the image folder of the annotation file as input",
        )
    log.info("%d of %d inputs are images of %s, which has %d", len(ids), len(sources), file.path.name, len(file.images))
    return [replace(source, image_id=ids[source.file_name]) for source in sources if source.file_name in ids]


def _straight(root: Path, found: str) -> Path:
    """Return a match in ``root``; ``..`` in it is resolved, because outputs are named after their inputs."""
    path = root / found
    return path.parent.resolve() / path.name if ".." in path.relative_to(root).parts else path


def _nothing(path: Path, files: Sequence[Path]) -> DataError:
    is_folder = path.is_dir()
    home = path if is_folder else path.parent
    return DataError(
        "no image or video in this folder" if is_folder else "no such file or folder, and no match of a pattern",
        where=f"input={path}",
        expected="an image, a video, a folder of them, or a pattern such as 'photos/**/*.jpg'",
        found=_kinds(files) if files else f"in {home}: {listing(home)}",
        remedy="subfolders are not searched; use a pattern with **" if is_folder else "check the path",
    )


def _kinds(files: Sequence[Path]) -> str:
    """3 files of other kinds (2 .txt, 1 .json)"""
    counts = Counter(file.suffix.lower() or "no suffix" for file in files)
    return f"{len(files)} files of other kinds ({', '.join(f'{count} {suffix}' for suffix, count in counts.most_common(6))})"
