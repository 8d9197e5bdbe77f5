"""Reading image files as 8-bit RGB; corrupt files are detected.

Files of more than 8 bits per channel often use fewer than they hold: 12 bits of a camera in samples of 16. The number of bits is what a
TIFF states, or else the smallest usual one that holds every value of the file, so that no image is read as near black.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from cis_seg.errors import DataError
from cis_seg.runtime.file_kinds import file_kind

Pixels = NDArray[np.uint8]

# Files selected from a folder or a pattern. HEIC is included so that unsupported photos are reported as unreadable instead of skipped.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip

# PIL is not the fastest decoder (3.2 ms against cv2's 2.3 for 1333x800), but it reports truncated files;
# cv2 fills the missing rows with grey.
#: what Pillow raises for corrupt files
CORRUPT = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


# the pixels are valid nevertheless, and an orientation that cannot be read counts as upright
warnings.filterwarnings("ignore", message=r"(Possibly corrupt|Corrupt) EXIF data", module=r"PIL\.")


class UnknownRangeError(ValueError):
    """Pixel values of which neither the file nor the format says which are black and white."""


_DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits per channel of cameras and scanners
_UPPER = 64  # because upper bytes below it belong to values of 14 bits or fewer
_BITS_PER_SAMPLE, _MAX_SAMPLE, _SIGNED_MAX_SAMPLE = 258, 281, 341  # tags of TIFF


def has_wide_colors(image: Image.Image) -> bool:
    """Whether the channels of a colour image that is not yet loaded have 16 bits, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def brightened(image: Image.Image, path: Path) -> Image.Image:
    """``image``, of 16 bits per channel, read again with all bits if its upper 8 hold next to nothing."""
    if np.asarray(image).max(initial=0) >= _UPPER:
        return image
    import cv2  # imported here because few data sets need it

    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width) or values.ndim != 3:
        return image
    bright = Image.fromarray(_scaled(values[:, :, 2::-1], _depth(values)))
    bright.getexif().update(image.getexif())
    return bright


def to_rgb(image: Image.Image) -> Pixels:
    """(H, W, 3) of a loaded image.

    Raises:
        UnknownRangeError: floating-point values outside 0 to 1.
        ValueError: a mode that Pillow cannot convert.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        grey = _from_floats(np.asarray(image), tags)
    elif image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64).clip(0)
        grey = _scaled(values, _depth(values, tags))
    else:
        image.info.pop("transparency", None)  # dropped anyway, but Pillow warns of some
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.repeat(grey[:, :, None], 3, axis=2)


def _depth(values: NDArray[Any], tags: Any = None) -> int:
    """Bits per value: as a TIFF states them, else the smallest of ``_DEPTHS`` that holds them all."""
    largest = int(values.max(initial=0))
    stated = (tags or {}).get(_MAX_SAMPLE) or (tags or {}).get(_SIGNED_MAX_SAMPLE)
    bits = [int(_first(stated)).bit_length()] if stated else []
    if 8 < (size := int(_first((tags or {}).get(_BITS_PER_SAMPLE, 16)))) < 16:
        bits.append(size)
    return next(bits for bits in [*bits, *_DEPTHS] if bits >= 8 and largest < 2**bits)


def _scaled(values: NDArray[Any], depth: int) -> Pixels:
    """The upper 8 of ``depth`` bits."""
    return (values >> (depth - 8)).astype(np.uint8)


def _from_floats(values: NDArray[Any], tags: Any) -> Pixels:
    stated = tags.get(_SIGNED_MAX_SAMPLE) or tags.get(_MAX_SAMPLE)
    largest = float(_first(stated)) if stated else 1.0
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) <= largest):
        raise UnknownRangeError(f"floating-point pixels from {values.min():g} to {values.max():g}, whose range is unknown: 0 to 1 is read")
    return (values / largest * 255).round().astype(np.uint8)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


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
        found = found.partition(", could be decompression bomb")[0]  # "Image size (... pixels) exceeds limit of ... pixels"
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
