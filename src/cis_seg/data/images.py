"""Reading image files as 8-bit RGB; corrupt files are detected."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from cis_seg.data.pixels import UnknownRangeError, brightened, has_wide_colors, to_rgb
from cis_seg.errors import DataError
from cis_seg.runtime.file_kinds import file_kind

# PIL is not the fastest decoder (3.2 ms against cv2's 2.3 for 1333x800), but it reports truncated files;
# cv2 fills the missing rows with grey.
#: what Pillow raises for corrupt files
CORRUPT = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: Path, *, exif: str = "ignore") -> NDArray[np.uint8]:
    """The pixels of ``path`` as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, transparency is dropped, CMYK is converted, values of more than 8 bits are scaled by the
    bits that the file uses (``pixels``), floating-point values from 0 to 1 are read, and of several frames the first is used.
    Up to 178,956,970 pixels are read without a warning, because photographs of 100 megapixels exist. PIL refuses larger images:
    a small file could fill the memory.

    Args:
        path: the file.
        exif: ``apply`` turns the photo by its EXIF orientation, like every viewer; ``ignore`` keeps the pixels as they are stored.
            Pillow always turns a TIFF.

    Raises:
        DataError: not a readable image, truncated, too large, or of a pixel format without a range (floating point beyond 0 to 1).
    """
    try:
        with opened(path) as image:
            loaded = _loaded(image, path)
            if exif == "apply":
                _turn(loaded)
            return to_rgb(loaded)
    except CORRUPT as error:
        raise unreadable(path, error) from error


def pil_pixels(image: Image.Image, *, exif: str = "ignore") -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has opened or made, as ``read_image`` gives them for its file; ``image`` is not turned.

    Of a colour image with 16 bits per channel that is already loaded, Pillow has kept the upper 8.

    Raises:
        DataError: as ``read_image``.
    """
    path = Path(getattr(image, "filename", "") or "image")
    try:
        loaded = _loaded(image, path)
        if exif == "apply" and _is_turned(loaded):
            loaded = loaded.copy()
            _turn(loaded)
        return to_rgb(loaded)
    except CORRUPT as error:
        raise unreadable(path, error) from error


def _loaded(image: Image.Image, path: Path) -> Image.Image:
    wide = has_wide_colors(image)
    image.load()
    return brightened(image, path) if wide else image


def _is_turned(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # as in _turn
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    return False


def _turn(image: Image.Image) -> None:
    # corrupt EXIF data can raise anything in PIL; the pixels are valid nevertheless
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def opened(path: Path) -> Image.Image:
    """Pillow's image of ``path``, of which the header is read; raises one of ``CORRUPT``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # raised from half of PIL's limit
        return Image.open(path)


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for an image that Pillow cannot read because of ``error``."""
    found, remedy = str(error), "download or copy the file again; it may have been cut short"
    if isinstance(error, Image.DecompressionBombError):
        remedy = "scale the image down, or cut it into tiles"
    elif isinstance(error, UnknownRangeError):
        remedy = "scale the values to 0 to 1, or save the image with 8 or 16 bits per channel"
    elif os.path.isfile(path):
        kind = file_kind(path)
        if kind is not None:
            found, remedy = f"{kind.name}: {error}" if kind.family == "image" else kind.name, kind.remedy or "give an image"
        found = f"{found} ({path.stat().st_size} bytes)"
    return DataError(
        f"{path.name} cannot be read as an image",
        where=path,
        expected="a complete JPEG, PNG or other image file",
        found=found,
        remedy=remedy,
    )
