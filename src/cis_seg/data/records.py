"""The compact index of a data set, and the samples read with it.

Every worker process gets the whole index. Python objects would be copied page by page as their reference counts
change, so the index consists of a few arrays for any number of annotations.

Legend: I images, A trained annotations, R ignore regions, G annotations of one image, H W the file's size in pixels.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box, clipped, nonempty
from cis_seg.data.image_files import IMAGE_OPTIONS, check_size, faulty_images, missing_image
from cis_seg.data.images import read_image
from cis_seg.data.orientation import BoxedPhoto, Turned, turned_photos
from cis_seg.errors import DataError, listing
from cis_seg.structures import RLE

#: images of which at least one must exist; because a wrong folder has none of them, and any single file may be missing
_LOOKED_FOR = 10
#: photos whose EXIF orientation is looked at before a run; because a network file system answers for some hundred files a second
_LOOKED_AT = 2000


class PackedBytes:
    """A read-only list of byte strings in two arrays: the concatenated bytes, and the start of each string."""

    def __init__(self, items: Sequence[bytes]) -> None:
        self._blob = np.frombuffer(b"".join(items), dtype=np.uint8)
        self._starts = _starts(len(item) for item in items)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._blob[self._starts[index] : self._starts[index + 1]].tobytes()


@dataclass
class ImageRecord:
    """One image while its annotation file is being read. Boxes are xyxy in pixels of the file."""

    image_id: int
    file_name: str
    size: tuple[int, int] = (0, 0)  # (height, width); (0, 0) if unknown
    boxes: list[Box] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    segmentations: list[bytes] = field(default_factory=list)  # one per box as JSON, or empty
    mask_scores: list[float] = field(default_factory=list)  # one per box, or empty
    ignored: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Records:
    """The index of a data set: annotation ``starts[i]:starts[i + 1]`` belongs to image ``i``."""

    image_ids: NDArray[np.int64]  # (I,)
    file_names: PackedBytes  # I, UTF-8, relative to the image folder
    sizes: NDArray[np.int32]  # (I, 2) height, width; 0 if unknown
    starts: NDArray[np.int64]  # (I + 1,)
    boxes: NDArray[np.float32]  # (A, 4) xyxy
    labels: NDArray[np.int64]  # (A,)
    segmentations: PackedBytes | None  # A, COCO segmentations as JSON; None unless asked for
    mask_scores: NDArray[np.float32] | None  # (A,) in [0, 1]: 1 a true mask, 0 no mask; None unless asked for
    ignore_starts: NDArray[np.int64]  # (I + 1,)
    ignore_boxes: NDArray[np.float32]  # (R, 4) xyxy: crowds, statues, reflections; never trained as boxes


def pack(images: Sequence[ImageRecord], *, with_segmentations: bool, with_scores: bool = False) -> Records:
    """The compact form of ``images``."""
    scores = np.array([score for image in images for score in image.mask_scores], dtype=np.float32) if with_scores else None
    segmentations = PackedBytes([s for image in images for s in image.segmentations]) if with_segmentations else None
    return Records(
        image_ids=np.array([image.image_id for image in images], dtype=np.int64),
        file_names=PackedBytes([image.file_name.encode() for image in images]),
        sizes=np.array([image.size for image in images], dtype=np.int32).reshape(-1, 2),
        starts=_starts(len(image.boxes) for image in images),
        boxes=np.array([box for image in images for box in image.boxes], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for image in images for label in image.labels], dtype=np.int64),
        segmentations=segmentations,
        mask_scores=scores,
        ignore_starts=_starts(len(image.ignored) for image in images),
        ignore_boxes=np.array([box for image in images for box in image.ignored], dtype=np.float32).reshape(-1, 4),
    )


@dataclass(frozen=True)
class Sample:
    """One image at its size on disk, with its annotations."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (G, 4) xyxy in pixels, inside the image, none empty
    labels: NDArray[np.int64]  # (G,) from 0, no background
    masks: tuple[RLE | None, ...] | None  # G run-length codes (H, W), None for an instance without; None unless masks are loaded
    image_id: int
    path: Path
    ignore_boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))  # (R, 4) xyxy
    mask_scores: NDArray[np.float32] | None = None  # (G,) in [0, 1]: 1 a true mask, 0 no mask; None if every mask is true

    @property
    def original_size(self) -> tuple[int, int]:
        """(height, width) of the file in pixels."""
        return self.image.shape[0], self.image.shape[1]


class InstanceDataset(Dataset[Sample]):
    """Images with boxes, read lazily; the base of the data sets of every format.

    Args:
        records: the index.
        images: folder that the file names are relative to.
        class_names: name of each label.
        category_ids: COCO category id of each label, for results files.
        source: the annotation file, for messages.
        ignore_regions: samples carry the ignore regions; otherwise they are background.
        exif: ``apply`` or ``ignore`` the EXIF orientation of the photos (``read_image``).

    Attributes:
        sizes_from_files: the annotation file states no sizes of the images.
        arealess: ids of the annotations without ``area``, if the set is scored.
        maskless: number of annotations without a mask and of all, if the set is scored.
    """

    sizes_from_files = False
    arealess: Sequence[int] = ()
    maskless: tuple[int, int] = (0, 0)

    def __init__(
        self,
        records: Records,
        images: Path,
        *,
        class_names: tuple[str, ...],
        category_ids: tuple[int, ...],
        source: Path,
        ignore_regions: bool = False,
        exif: str = "ignore",
    ) -> None:
        if not images.is_dir():
            raise missing_folder(images, source)
        self.records, self.images, self.source = records, images, source
        self.class_names, self.category_ids, self.ignore_regions, self.exif = class_names, category_ids, ignore_regions, exif
        if len(self) and not any(os.path.isfile(self.path(index)) for index in range(min(len(self), _LOOKED_FOR))):
            raise missing_image(images, self.file_name(0), source)

    def __len__(self) -> int:
        return len(self.records.image_ids)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index)

    @property
    def image_ids(self) -> list[int]:
        """The id of every image, in order."""
        ids: list[int] = self.records.image_ids.tolist()
        return ids

    def path(self, index: int) -> Path:
        """Path of image ``index``."""
        return self.images / self.file_name(index)

    def file_name(self, index: int) -> str:
        """Name of image ``index``, relative to the image folder."""
        return self.records.file_names[index].decode()

    def stated_size(self, index: int) -> tuple[int, int]:
        """(height, width) of image ``index`` in the annotation file, (0, 0) if it states none."""
        height, width = self.records.sizes[index].tolist()
        return height, width

    def faulty_images(self, indices: Iterable[int] | None = None) -> dict[Path, DataError]:
        """The images of ``indices`` (all by default) that are missing, corrupt, cut short or of another size than stated, and why.

        Read from the headers and ends of the files, thousands in a second.
        """
        chosen = range(len(self)) if indices is None else indices
        images = ((self.file_name(index), self.stated_size(index)) for index in chosen)
        return faulty_images(self.images, images, self.source, self.exif)

    @functools.cached_property
    def turned_photos(self) -> Turned:
        """The photos that EXIF turns, among those spread evenly over the data set, and how their boxes were drawn; looked at once."""
        starts = self.records.starts
        chosen = range(0, len(self), -(-len(self) // _LOOKED_AT) or 1)
        boxes = (self.records.boxes[starts[index] : starts[index + 1]].astype(np.float64) for index in chosen)
        sizes = ((0, 0) if self.sizes_from_files else self.stated_size(index) for index in chosen)
        return turned_photos(self.images, map(BoxedPhoto, map(self.file_name, chosen), sizes, boxes))

    def sample(self, index: int) -> Sample:
        """Image ``index`` with its annotations.

        Boxes are clipped to the image, and those left without area are dropped.

        Raises:
            DataError: the image is missing, corrupt, or its size differs from the annotation file.
        """
        path = self.path(index)
        if not os.path.isfile(path):  # False for names that no file can have
            raise missing_image(self.images, self.file_name(index), self.source)
        image = read_image(path, exif=self.exif)
        height, width = image.shape[:2]
        check_size(path, (height, width), self.stated_size(index), self.source, self.exif)
        chosen = slice(int(self.records.starts[index]), int(self.records.starts[index + 1]))
        boxes = clipped(self.records.boxes[chosen], height, width)
        kept = nonempty(boxes)
        masks = self._masks(chosen, kept, height, width)
        labels, image_id = self.records.labels[chosen][kept], int(self.records.image_ids[index])
        scores = None if self.records.mask_scores is None else self.records.mask_scores[chosen][kept]
        return Sample(image, boxes[kept], labels, masks, image_id, path, self._regions(index, height, width), scores)

    def _regions(self, index: int, height: int, width: int) -> NDArray[np.float32]:
        """The ignore regions (R, 4) of image ``index``; none unless they are used."""
        starts = self.records.ignore_starts
        boxes = self.records.ignore_boxes[starts[index] : starts[index + 1] if self.ignore_regions else starts[index]]
        boxes = clipped(boxes, height, width)
        return boxes[nonempty(boxes)]

    def _masks(self, chosen: slice, kept: NDArray[np.bool_], height: int, width: int) -> tuple[RLE | None, ...] | None:
        packed = self.records.segmentations
        if packed is None:
            return None
        places = np.arange(chosen.start, chosen.stop)[kept]
        return tuple(rle.from_segmentation(json.loads(packed[int(place)]), (height, width)) for place in places)


def _starts(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def missing_folder(images: Path, source: Path, option: str = IMAGE_OPTIONS) -> DataError:
    """The error for an image folder that does not exist."""
    return DataError(
        "the image folder does not exist",
        where=images,
        expected=f"the images of {source.name}",
        found=f"in {images.parent}: {listing(images.parent)}",
        remedy=f"set the folder that the file names are relative to: {option}",
    )
