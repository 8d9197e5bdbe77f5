"""Images as callers in Python have them: paths, PIL images and arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cis_seg.data.images import pil_pixels, read_image
from cis_seg.errors import DataError, listing

Pixels = NDArray[np.uint8]
AnyImage = str | Path | Image.Image | Pixels

_EXPECTED = "a path, a PIL image, or an array (H, W, 3) of uint8, RGB"


@dataclass(frozen=True, eq=False)
class GivenImage:
    """An image that is read when its pixels are needed, so that the results for a folder hold no pixels.

    Args:
        image: as given.
        exif: ``apply`` or ``ignore`` the EXIF orientation of paths and PIL images (``read_image``).
    """

    image: AnyImage
    exif: str

    def pixels(self) -> Pixels:
        """The image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            DataError: no such file, not a readable image, or an array of the wrong shape or dtype.
        """
        if isinstance(self.image, str | Path):
            return read_image(_existing(Path(self.image).expanduser()), exif=self.exif)
        if isinstance(self.image, Image.Image):
            return pil_pixels(self.image, exif=self.exif)
        return _checked(self.image)


def _existing(path: Path) -> Path:
    if not path.is_file():
        problem = "a folder is given where one image is needed" if path.is_dir() else "there is no such image"
        raise DataError(problem, where=path, expected=_EXPECTED, found=f"in {path.parent}: {listing(path.parent)}", remedy="check the path")
    return path


def _checked(image: Any) -> Pixels:
    """Return an array of the documented kind, contiguous in memory."""
    if not isinstance(image, np.ndarray):
        remedy = (
            "convert it with image.permute(1, 2, 0).cpu().numpy()" if hasattr(image, "permute") else "open the file with PIL.Image.open"
        )
        raise DataError("this is not an image", expected=_EXPECTED, found=type(image).__name__, remedy=remedy)
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError("the image array has the wrong shape", expected=_EXPECTED, found=image.shape, remedy=_remedy(image.shape))
    if image.dtype != np.uint8:
        remedy = "values from 0 to 1: (image * 255).round().astype(numpy.uint8); values from 0 to 255: image.astype(numpy.uint8)"
        raise DataError("the image array has the wrong dtype", expected=_EXPECTED, found=image.dtype, remedy=remedy)
    return np.ascontiguousarray(image)


def _remedy(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "grey: give numpy.stack([image] * 3, axis=2)"
    if len(shape) == 4:
        return "several images: give list(images)"
    if len(shape) == 3 and shape[2] == 4:
        return "drop the fourth channel with image[:, :, :3]"
    return "channels first: pass image.transpose(1, 2, 0)" if len(shape) == 3 and shape[0] == 3 else "pass one image with pixels"
