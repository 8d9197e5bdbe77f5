"""Pixels of any of Pillow's modes as 8-bit RGB.

Files of more than 8 bits per channel often use fewer than they hold: 12 bits of a camera in samples of 16. The number of bits is what a
TIFF states, or else the smallest usual one that holds every value of the file, so that no image is read as near black.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


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
