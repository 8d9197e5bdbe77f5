"""Photos and video frames as network inputs; no batch holds an image at full size.

Legend: H W size of the upright file in pixels, h w size of the network's input, v u size of the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cis_seg.coco.reader import warn_once
from cis_seg.config.schema import TileConfig
from cis_seg.data.image_files import read_header
from cis_seg.data.images import read_image
from cis_seg.data.records import Sample
from cis_seg.data.transforms import Example, Pixels, TestTransform, resized, resized_size
from cis_seg.errors import DataError
from cis_seg.inference.inputs import Source
from cis_seg.inference.tiles import Window, tile_windows
from cis_seg.inference.video import read_frames


@dataclass(frozen=True)
class Photo:
    """An image, or one frame of a video, read and resized."""

    source: Source
    frame: int | None  # index in the video, from 0; None for an image
    example: Example  # the network's input; ``image_id`` is the source's, or counts the photos from 1
    view: Pixels  # (v, u, 3) uint8 RGB to draw on; downscaled if its longer side exceeds the limit
    tiles: Sequence[Window]  # empty: the image is seen as a whole only
    image: Pixels | None  # (H, W, 3) uint8 RGB, to cut tiles from; None without any


def read_photos(
    sources: Iterable[Source],
    transform: TestTransform,
    *,
    view_side: int,
    unreadable: dict[Source, DataError],
    exif: str = "apply",
    tiling: TileConfig | None = None,
) -> Iterator[Photo]:
    """Read every image and every frame of every video lazily, in order.

    Args:
        sources: the files.
        transform: resizes to the network's input.
        view_side: maximum of the longer side of ``Photo.view`` in pixels.
        unreadable: filled with the errors of files that cannot be read; the others continue.
        exif: ``apply`` or ``ignore`` the EXIF orientation of the images (``read_image``).
        tiling: whether large images are cut into tiles; None: no.
    """
    number = 0
    for source in sources:
        try:
            for frame, image in _images(source, exif):
                number += 1
                windows = tile_windows((image.shape[0], image.shape[1]), tiling or TileConfig(), transform)
                yield _photo(source, frame, image, transform, number, view_side, windows)
        except DataError as error:
            unreadable[source] = error


def _images(source: Source, exif: str) -> Iterator[tuple[int | None, Pixels]]:
    if source.is_video:
        yield from enumerate(read_frames(source.path))
    else:
        image = read_image(source.path, exif=exif)
        if read_header(source.path).animated:
            warn_once("only the first frame of animations and of files with several pages is predicted")
        yield None, image


def _photo(
    source: Source, frame: int | None, image: Pixels, transform: TestTransform, number: int, view_side: int, tiles: Sequence[Window]
) -> Photo:
    image_id = number if source.image_id is None else source.image_id
    example = unlabelled(image, transform, image_id=image_id, path=source.path)
    longer = max(example.original_size)
    view = image if longer <= view_side else resized(image, *resized_size(*example.original_size, longer, view_side))
    return Photo(source, frame, example, view, tiles, image if tiles else None)


def unlabelled(image: Pixels, transform: TestTransform, *, image_id: int = 0, path: Path = Path()) -> Example:
    """Return the network's input for an image (H, W, 3) without annotations."""
    sample = Sample(image, np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), None, image_id, path)
    return transform(sample, position=0)


def batched(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    """Group consecutive photos of the same input size into batches of up to ``size``; one with tiles is alone.

    Images of different sizes are never batched: their padding would enter the head's group norms, so that the result of a photo would
    depend on the others.
    """
    batch: list[Photo] = []
    for photo in photos:
        differs = batch and photo.example.pixels.shape != batch[0].example.pixels.shape
        if batch and (len(batch) == size or differs or photo.tiles or batch[0].tiles):
            yield batch
            batch = []
        batch.append(photo)
    if batch:
        yield batch
