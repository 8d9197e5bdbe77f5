"""From examples to a batch: padding to a common size.

Legend: B examples, h w size of an image, H W size of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cis_seg.data.transforms import Example
from cis_seg.structures import Batch

DIVISOR = 32  # so that every feature level up to stride 32 divides the input; the reference pads to the same


def collate(examples: Sequence[Example]) -> Batch:
    """Pad with zeros right and bottom, to the largest height and width of the batch rounded up to 32.

    ``clean_pixels`` is ``pixels`` itself if no example had photometric augmentation.
    """
    pixels = _padded([example.pixels for example in examples])
    unchanged = all(example.clean_pixels is example.pixels for example in examples)
    return Batch(
        pixels=pixels,
        clean_pixels=pixels if unchanged else _padded([example.clean_pixels for example in examples]),
        image_sizes=tuple((example.pixels.shape[1], example.pixels.shape[2]) for example in examples),
        original_sizes=tuple(example.original_size for example in examples),
        image_ids=tuple(example.image_id for example in examples),
        positions=tuple(example.position for example in examples),
        targets=tuple(example.target for example in examples),
    )


def padded_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(H, W) of a batch of images of these (height, width): the largest of each, rounded up to 32."""
    height, width = (-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*sizes, strict=True))
    return height, width


def _padded(images: Sequence[Tensor]) -> Tensor:
    """B x (3, h, w) -> (B, 3, H, W)"""
    batch = torch.zeros(len(images), 3, *padded_size([(image.shape[1], image.shape[2]) for image in images]), dtype=torch.uint8)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch
