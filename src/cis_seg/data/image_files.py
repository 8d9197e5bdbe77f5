"""Image files: size, EXIF orientation and frames from their headers, a fast check of many, and messages about missing ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import ExifTags, Image
from tqdm import tqdm

from cis_seg.coco.file_names import near_file
from cis_seg.data.images import CORRUPT, has_wide_colors, opened, read_image, unreadable
from cis_seg.errors import DataError, listing

#: the options that name the folder of the images in a run
IMAGE_OPTIONS = "data.images, or data.val_images for the scored set"
THREADS = 8  # because reading headers waits for the disk, not the processor
_TAIL = 64  # bytes in which a file's end marker is looked for
_SIDEWAYS = 5  # EXIF orientations from here on swap width and height
Size = tuple[int, int]


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
        if near.name.endswith(f"/{name}"):
            remedy = f"set the image folder ({option}) to {folder / near.name.removesuffix(f'/{name}')}"
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


class Header(NamedTuple):
    """What the header of an image file says."""

    stored: Size  # (height, width) of the stored pixels
    orientation: int  # EXIF: 1 upright, 2 to 8 turned or mirrored; 1 for a TIFF, which Pillow always turns upright
    animated: bool  # whether there are other frames than the first
    deep: bool  # whether there are more than 8 bits per channel

    def size(self, exif: str) -> Size:
        """(height, width) of what ``read_image(path, exif=exif)`` returns."""
        return oriented(self.stored, self.orientation, exif)


def oriented(stored: Size, orientation: int, exif: str) -> Size:
    """The size of an image of ``stored`` size and EXIF ``orientation`` as it is read."""
    return stored[::-1] if exif == "apply" and orientation >= _SIDEWAYS else stored


def read_header(path: Path) -> Header:
    """The header of ``path``; corruption behind it is not detected.

    Raises:
        DataError: not a readable image.
    """
    try:
        with opened(path) as image:
            return Header((image.height, image.width), _orientation(image), bool(getattr(image, "is_animated", False)), _is_deep(image))
    except CORRUPT as error:
        raise unreadable(path, error) from error


def read_headers(paths: Sequence[Path], doing: str, *, delay: float = 0) -> list[Header | None]:
    """The headers of many files, None of each that is missing or not an image; ``doing`` labels the progress, shown after ``delay`` s."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(tqdm(pool.map(_header, paths), total=len(paths), desc=doing, unit=" images", disable=None, delay=delay))


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except DataError:
        return None


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or has_wide_colors(image)  # floating-point pixels are 0 to 1 or refused


def _orientation(image: Image.Image) -> int:
    # Pillow turns a TIFF itself, and it decodes a PNG to look for EXIF data behind the pixels, where hardly any is
    if image.format == "TIFF" or (image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys()):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # corrupt EXIF data can raise anything in PIL; the pixels are valid nevertheless
        return 1
    return value if value in range(1, 9) else 1


def check_size(path: Path, found: Size, stated: Size, source: Path, exif: str) -> None:
    """Compare the size of an image with the one that its annotations state, (0, 0) if they state none.

    Args:
        path: the image.
        found: (height, width) of the pixels as read.
        stated: (height, width) in the annotation file.
        source: the annotation file.
        exif: ``apply`` or ``ignore``, as the image was read.

    Raises:
        DataError: they differ; names the EXIF orientation if that is the difference.
    """
    if stated in ((0, 0), found):
        return
    orientation = read_header(path).orientation
    remedy = "use the annotated image (not resized, not rotated), or correct width and height in the json"
    if orientation >= _SIDEWAYS and found == stated[::-1]:
        other, drawn = ("ignore", "as it is stored") if exif == "apply" else ("apply", "as viewers show it")
        remedy = f"the photo has EXIF orientation {orientation} and was annotated {drawn}: set exif={other} (data.exif={other} in a run)"
    elif found == stated[::-1]:
        remedy = "width and height are exchanged: exchange them in the json"
    raise DataError(
        f"the size of {path.name} does not match its annotations",
        where=path,
        expected=f"{stated[1]} x {stated[0]} pixels (width x height), from {source}",
        found=f"{found[1]} x {found[0]}",
        remedy=remedy,
    )


def faulty_images(folder: Path, images: Iterable[tuple[str, Size]], source: Path, exif: str) -> dict[Path, DataError]:
    """Those of ``images`` that are missing, cannot be read, are cut short or have another size than stated, and why.

    Only headers and ends are read, thousands of files in a second. An image is decoded if its end is not the one of a whole file.

    Args:
        folder: the image folder.
        images: name in ``folder`` and stated (height, width) of each, (0, 0) if unknown.
        source: the annotation file.
        exif: ``apply`` or ``ignore``.
    """
    listed = list(images)
    with ThreadPoolExecutor(THREADS) as pool:
        errors = pool.map(lambda image: _fault(folder, image[0], image[1], source, exif), listed)
        watched = tqdm(errors, total=len(listed), desc=f"checking the images of {source.name}", unit=" images", disable=None, delay=2)
        return {folder / name: error for (name, _), error in zip(listed, watched, strict=True) if error is not None}


def _fault(folder: Path, name: str, stated: Size, source: Path, exif: str) -> DataError | None:
    path = folder / name
    try:
        if not os.path.isfile(path):  # False for names that no file can have
            return missing_image(folder, name, source)
        check_size(path, read_header(path).size(exif), stated, source, exif)
        if not _ends_well(path):
            read_image(path)
    except DataError as error:
        return error
    except OSError as error:  # no permission, or a disk that fails
        return unreadable(path, error)
    return None


def _ends_well(path: Path) -> bool:
    """Whether the last bytes are those of a whole JPEG or PNG; False decides nothing."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read().rstrip(b"\0")
    return tail.endswith((b"\xff\xd9", b"IEND\xaeB`\x82"))
