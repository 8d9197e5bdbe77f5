"""Reading an image file as 8-bit RGB, noticing damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cis_seg.errors import DataError

# PIL is not the fastest decoder (3.2 ms against cv2's 2.3 for 1333x800), but it says when a file is cut short;
# cv2 fills the missing rows with grey and goes on.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: Path) -> NDArray[np.uint8]:
    """The pixels of ``path`` as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, transparency is dropped, 16 bits keep their upper 8. The EXIF orientation is
    not applied: annotations are in pixels of the file as it is stored.

    Raises:
        DataError: not a readable image, cut short, or of a pixel format without a range (floating point).
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _rgb(image)
    except _DAMAGED as error:
        raise DataError(
            f"{path.name} cannot be read as an image",
            where=path,
            expected="a complete JPEG, PNG or other image file",
            found=f"{error} ({path.stat().st_size} bytes)",
            remedy="download or copy the file again; it may have been cut short",
        ) from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):  # 16 bits; PIL's own conversion would cut off at 255
        grey = (np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))
