"""Reading an image file as 8-bit RGB, noticing damage."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cis_seg.errors import DataError

# PIL is not the fastest decoder (3.2 ms against cv2's 2.3 for 1333x800), but it says when a file is cut short;
# cv2 fills the missing rows with grey and goes on.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """The pixels of ``path`` as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, transparency is dropped, CMYK is converted, 16 bits keep their upper 8, of several
    frames the first is taken. Up to 178,956,970 pixels are read without a word: photographs of 100 megapixels are real.
    PIL refuses more, lest a small file of that kind fill the memory.

    Args:
        path: the file.
        upright: turn the image as its EXIF orientation says, like every viewer. Not so for annotated images: annotations
            are in pixels of the file as it is stored.

    Raises:
        DataError: not a readable image, cut short, too large, or of a pixel format without a range (floating point).
    """
    try:
        with _opened(path) as image:
            image.load()
            if upright:
                _turn(image)
            return _rgb(image)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def _turn(image: Image.Image) -> None:
    # damaged EXIF data fail in whatever way their bytes lead PIL to; the pixels are sound all the same
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of ``path`` in pixels, from its header alone; damage behind it is not noticed.

    Raises:
        DataError: not a readable image.
    """
    try:
        with _opened(path) as image:
            return image.height, image.width
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def _opened(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # PIL's, from half of its limit on
        return Image.open(path)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path.name} cannot be read as an image",
        where=path,
        expected="a complete JPEG, PNG or other image file",
        found=f"{error} ({path.stat().st_size} bytes)" if path.is_file() else error,
        remedy="download or copy the file again; it may have been cut short",
    )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):  # 16 bits; PIL's own conversion would cut off at 255
        grey = (np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
