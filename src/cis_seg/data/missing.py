"""Missing image files: which name was looked for, and a file whose name is spelled a little differently."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cis_seg.coco.near_files import near_file
from cis_seg.errors import DataError, listing

#: the options that name the folder of the images in a run
IMAGE_OPTIONS = "data.images, or data.val_images for the scored set"


def missing_image(folder: Path, name: str, source: object, option: str = IMAGE_OPTIONS) -> DataError:
    """The error for an image that does not exist.

    Args:
        folder: the image folder.
        name: the file name in the annotation file, relative to ``folder``.
        source: the annotation file (and its line), for the message.
        option: the option that sets ``folder``.
    """
    path, near = folder / name, near_file(folder, name)
    remedy = "check the image folder, or complete the download"
    if near is not None:
        remedy = f"write {near.name!r} into {source}, or rename the file; file names are relative to the image folder ({option})"
    return DataError(
        f"image {PurePosixPath(name).name} is missing",
        where=path,
        expected=f"the file that {source} names",
        found=near or f"in {path.parent}: {listing(path.parent, most=5)}",
        remedy=remedy,
    )


def missing_text(folder: Path, name: str) -> str:
    """That an image is missing, and the near file if there is one; in one line."""
    near = near_file(folder, name)
    return f"{folder / name} is missing" + (f"; {near}" if near else "")
