"""What Python callers give and get: images as paths, PIL images or arrays, and the instances found in one.

Legend: N instances, H W size of the image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cis_seg.coco import rle
from cis_seg.coco.results import to_results
from cis_seg.data.images import pil_pixels, read_image
from cis_seg.errors import ConfigError, DataError, listing
from cis_seg.structures import Instances
from cis_seg.visualization.drawing import draw_instances, far_to_near, predicted_drawings

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


class Detections:
    """What a network finds in one image; ``predict`` sorts by score, ``masks_for`` keeps the order of the boxes.

    Attributes:
        boxes: ``(N, 4)`` float32, xyxy in pixels of the image.
        scores: ``(N,)`` float32 in [0, 1]; for ``masks_for`` the confidence of each mask.
        labels: ``(N,)`` int64, index into the network's ``class_names``.
        names: N class names.
        image_size: ``(H, W)``.
    """

    def __init__(self, instances: Instances, image: GivenImage, class_names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.boxes: NDArray[np.float32] = instances.boxes.cpu().numpy()
        self.scores: NDArray[np.float32] = instances.scores.cpu().numpy()
        self.labels: NDArray[np.int64] = instances.labels.cpu().numpy()
        self.names = [class_names[label] for label in self.labels]
        self.image_size = instances.image_size
        self._instances, self._image, self._class_names, self._category_ids = instances, image, class_names, category_ids

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<{len(self)} instances in an image of {width} x {height} pixels>"

    @property
    def path(self) -> Path | None:
        """The image's file; None for a PIL image or an array."""
        return Path(self._image.image) if isinstance(self._image.image, str | Path) else None

    @property
    def masks(self) -> NDArray[np.bool_]:
        """``(N, H, W)`` bool, decoded at each read: N x H x W bytes."""
        masks = np.zeros((len(self), *self.image_size), dtype=np.bool_)
        for mask, code in zip(masks, self._instances.masks, strict=True):
            mask[:] = rle.decode(code)
        return masks

    def draw(self, draw_threshold: float = 0.0) -> Pixels:
        """Draw masks, outlines, names and scores on the image, at its size.

        Args:
            draw_threshold: minimum score of the instances that are drawn.

        Returns:
            ``(H, W, 3)`` uint8 RGB.
        """
        drawings = far_to_near(predicted_drawings(self._instances, self._class_names, draw_threshold))
        return draw_instances(self._image.pixels(), drawings, max_side=max(self.image_size), boxes=False)

    def save(self, path: str | Path, draw_threshold: float = 0.0) -> Path:
        """Write the drawing as an image file of any format that Pillow writes, and return its path.

        Raises:
            ConfigError: the suffix is that of no image format.
        """
        path = Path(path).expanduser()
        if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
            raise ConfigError("the drawing has a format that cannot be written", where=path, expected="a file such as seen.png or seen.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.draw(draw_threshold)).save(path)
        return path

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return the entries of a COCO results file: image_id, category_id, bbox (xywh), score and segmentation (compressed RLE)."""
        return to_results(self._instances, image_id, self._category_ids)
