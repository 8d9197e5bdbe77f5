"""The Python interface: a checkpoint's network, which finds instances and masks for given boxes.

The commands ``predict`` and ``masks_from_boxes`` run the same functions, so that their numbers are equal.

Legend: G given boxes of one image, N instances.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from cis_seg.coco.boxes import Box, inside
from cis_seg.config.command_schema import MasksFromBoxesConfig, PredictConfig
from cis_seg.config.plain import chosen_inference
from cis_seg.config.schema import DetectionConfig, MaskConfig, TileConfig
from cis_seg.config.validation import problems
from cis_seg.data.batches import collate
from cis_seg.errors import DataError
from cis_seg.evaluation.exclusive import exclusive_instances
from cis_seg.inference.box_masks import BoxMasker
from cis_seg.inference.detections import AnyImage, Detections, GivenImage, Pixels
from cis_seg.inference.given_boxes import ANY_CLASS
from cis_seg.inference.inputs import find_sources
from cis_seg.inference.photos import unlabelled
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import Trained, load_trained, pick_device, predict_batch, predict_tiles, test_transform
from cis_seg.inference.tiles import tile_windows, warn_without_tiles
from cis_seg.structures import Instances

log = logging.getLogger(__name__)


class _Options(TypedDict, total=False):
    """The keywords of ``Network.predict``, for its overloads."""

    nms_threshold: float
    max_detections: int
    test_size: int | None
    max_size: int | None
    tiles: str | None
    overlap: float
    exclusive: bool
    inference: str
    cut_to_box: bool | None
    refine: bool | None
    flip: bool | None
    rescore: bool | None
    exif: str


class Network:
    """A trained network that predicts; made by ``cis_seg.load``.

    Attributes:
        class_names: name of each label.
        category_ids: COCO category id of each label.
        device: the network runs there.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        self.class_names, self.category_ids, self.device = trained.class_names, trained.category_ids, device
        self._trained, self._model = trained, trained.model.to(device)

    def __repr__(self) -> str:
        return f"<network for {', '.join(self.class_names[:5])}{', ...' * (len(self.class_names) > 5)} on {self.device}>"

    @overload
    def predict(self, images: str | Path, score_threshold: float = ..., **options: Unpack[_Options]) -> Any: ...
    @overload
    def predict(self, images: Image.Image | Pixels, score_threshold: float = ..., **options: Unpack[_Options]) -> Detections: ...
    @overload
    def predict(self, images: Sequence[AnyImage], score_threshold: float = ..., **options: Unpack[_Options]) -> list[Detections]: ...

    def predict(
        self,
        images: AnyImage | Sequence[AnyImage],
        score_threshold: float = 0.3,
        *,
        nms_threshold: float = DetectionConfig.nms_threshold,
        max_detections: int = DetectionConfig.max_detections,
        test_size: int | None = None,
        max_size: int | None = None,
        tiles: str | None = None,
        overlap: float = TileConfig.overlap,
        exclusive: bool = False,
        inference: str = "reference",
        cut_to_box: bool | None = None,
        refine: bool | None = None,
        flip: bool | None = None,
        rescore: bool | None = None,
        exif: str = "apply",
    ) -> Detections | list[Detections]:
        """Find the instances of images. The options have the meaning they have in the command ``predict``.

        Args:
            images: a path, a PIL image or an ``(H, W, 3)`` uint8 RGB array; or a list of them, a folder or a pattern such as
                ``photos/**/*.jpg``, which give a list. Files of a folder or pattern that cannot be read are logged and left out.
            score_threshold: minimum class score x centerness, before NMS. A detection's score is the square root of this product.
            nms_threshold: IoU above which the lower-scored of two boxes of a class is removed.
            max_detections: maximum number of instances per image.
            test_size: shorter side of the resized image in pixels; None: as in the checkpoint's validation.
            max_size: maximum length of the longer side.
            tiles: ``auto`` or ``1024x768`` (width x height): also predict overlapping tiles of large images.
            overlap: minimum overlap of neighbouring tiles, as a fraction of their sides.
            exclusive: masks share no pixel: each goes to the best-scored mask that claims it.
            inference: ``reference`` or ``best``, which sets those of the next four that are None.
            cut_to_box: cut each mask to its box.
            refine: snap mask outlines to colour edges inside the box (mean field); also cuts to the box.
            flip: average masks with those of the mirrored image.
            rescore: scores become sqrt(score x mean mask score inside the mask).
            exif: ``apply`` or ``ignore`` the EXIF orientation of files and PIL images.

        Raises:
            DataError: no such file, not an image, or an array of the wrong shape or dtype.
            ConfigError: an option out of its range.
        """
        detection, tiling = DetectionConfig(score_threshold, nms_threshold, max_detections), TileConfig(tiles, overlap)
        _check(PredictConfig(**asdict(detection), **asdict(tiling), test_size=test_size, max_size=max_size, exif=exif))
        warn_without_tiles(tiling)
        masks = chosen_inference(inference, cut_to_box=cut_to_box, refine=refine, flip=flip, rescore=rescore)
        postprocess, transform = Postprocess(detection, masks=masks), test_transform(self._trained, test_size, max_size)

        def found(image: AnyImage) -> Detections:
            given = GivenImage(image, exif)
            pixels = given.pixels()
            windows = tile_windows((pixels.shape[0], pixels.shape[1]), tiling, transform)
            if windows:
                instances = predict_tiles(self._model, postprocess, pixels, windows, transform, self.device)
            else:
                (instances,) = predict_batch(self._model, postprocess, collate([unlabelled(pixels, transform)]), self.device)
            return self._detections(exclusive_instances(instances) if exclusive else instances, given)

        if isinstance(images, list | tuple):
            return [found(image) for image in images]
        if isinstance(images, str | Path) and _names_several(Path(images).expanduser()):
            return [one for path in _files(str(images)) if (one := _readable(found, path)) is not None]
        return found(cast("AnyImage", images))

    def masks_for(
        self,
        image: AnyImage,
        boxes: ArrayLike,
        labels: Sequence[int] | None = None,
        *,
        test_size: int | None = None,
        max_size: int | None = None,
        cut_to_box: bool = True,
        refine: bool = False,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        exif: str = "ignore",
    ) -> Detections:
        """Predict the mask of each given box. The options have the meaning they have in the command ``masks_from_boxes``.

        Args:
            image: a path, a PIL image or an ``(H, W, 3)`` uint8 RGB array.
            boxes: ``(G, 4)`` xyxy in pixels of the image, each with an area inside it.
            labels: ``(G,)`` class of each box, index into ``class_names``; -1 or None: the class with the best score.
            test_size: as in ``predict``.
            max_size: as in ``predict``.
            cut_to_box: cut each mask to its box.
            refine: as in ``predict``.
            flip: as in ``predict``.
            scales: multiples of the image's size in the network; masks are averaged over them.
            exif: ``ignore`` if the boxes are on the pixels as stored (as in COCO json files, and in ``PIL.Image.open``), ``apply`` if they
                are on the upright photo (as those of ``predict``).

        Returns:
            One instance per box, in the order of the boxes; its score is the confidence, the agreement of the network's own detection with
            the box. Look at those below 0.5 first.

        Raises:
            DataError: no such file, not an image, or a box outside the image, without area or of the wrong shape.
        """
        _check(MasksFromBoxesConfig(test_size=test_size, max_size=max_size, exif=exif, scales=list(scales)))
        given = GivenImage(image, exif)
        pixels = given.pixels()
        size = pixels.shape[0], pixels.shape[1]
        corners = _checked_boxes(boxes, size)
        classes = self._checked_labels(labels, len(corners))
        transform = test_transform(self._trained, test_size, max_size)
        masker = BoxMasker(self._trained, transform, self.device, MaskConfig(cut_to_box, refine, flip), scales)
        masks = masker(pixels, corners, classes)
        instances = Instances(
            torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            torch.tensor([mask.confidence for mask in masks], dtype=torch.float32),
            torch.tensor([mask.label for mask in masks], dtype=torch.int64),
            tuple(mask.mask for mask in masks),
            size,
        )
        return self._detections(instances, given)

    def _detections(self, instances: Instances, image: GivenImage) -> Detections:
        return Detections(instances, image, self.class_names, self.category_ids)

    def _checked_labels(self, labels: Sequence[int] | None, count: int) -> list[int]:
        if labels is None:
            return [ANY_CLASS] * count
        classes = np.asarray(labels).tolist()
        known = range(ANY_CLASS, len(self.class_names))
        if not isinstance(classes, list) or len(classes) != count or any(label not in known for label in classes):
            expected = f"one per box, from 0 to {len(self.class_names) - 1} ({', '.join(self.class_names[:10])}), or -1 for any class"
            raise DataError("the labels do not fit the boxes", expected=f"{count}: {expected}", found=str(classes)[:200])
        return [int(label) for label in classes]


def load_network(path: Path, device: str) -> Network:
    """Load a checkpoint on a device; see ``cis_seg.load``."""
    return Network(load_trained(path), pick_device(device))


def _check(options: PredictConfig | MasksFromBoxesConfig) -> None:
    for problem in problems(options):
        raise problem


def _names_several(path: Path) -> bool:
    return path.is_dir() or (glob.has_magic(str(path)) and not path.exists())


def _files(text: str) -> list[Path]:
    """Return the images of a folder or a pattern."""
    sources = find_sources(text)
    videos = [source.path.name for source in sources if source.is_video]
    if videos:
        log.warning("%s: %d videos are left out, %s for one; the command predict reads videos", text, len(videos), videos[0])
    return [source.path for source in sources if not source.is_video]


def _readable(found: Callable[[Path], Detections], path: Path) -> Detections | None:
    try:
        return found(path)
    except DataError as error:
        log.warning("%s cannot be read and is left out: %s", path, error.found)
        return None


def _checked_boxes(boxes: ArrayLike, size: tuple[int, int]) -> list[Box]:
    """Return the boxes ``(G, 4)`` as tuples.

    Raises:
        DataError: the wrong shape, a value that is not finite, or a box without area inside the image.
    """
    expected = "(G, 4): x0, y0, x1, y1 in pixels of the image"
    try:
        corners = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("the boxes are not numbers", expected=expected, found=str(boxes)[:200]) from error
    corners = corners.reshape(0, 4) if corners.size == 0 else corners
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DataError("the boxes have the wrong shape", expected=expected, found=corners.shape, remedy="pass [box] for a single box")
    found: list[Box] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist()]
    for index, box in enumerate(found):
        if not np.isfinite(box).all() or inside(box, size) is None:
            raise DataError(
                f"box {index} has no area inside the image",
                expected=f"{expected}, here {size[1]} x {size[0]} (width x height)",
                found=list(box),
                remedy="give corners instead of width and height, and pixels instead of fractions of the image's size",
            )
    return found
