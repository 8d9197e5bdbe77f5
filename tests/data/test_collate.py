"""Padding examples into a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from cis_seg.data.transforms import Example, collate
from cis_seg.structures import Target


def _example(height: int, width: int, position: int, clean: Tensor | None = None) -> Example:
    pixels = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    target = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return Example(pixels, pixels if clean is None else clean, target, 100 + position, (2 * height, 2 * width), position)


def test_padding_is_right_and_bottom_to_a_multiple_of_32() -> None:
    examples = [_example(30, 65, 4), _example(40, 20, 5)]
    batch = collate(examples)
    assert batch.pixels.shape == (2, 3, 64, 96)
    assert batch.pixels.dtype == torch.uint8
    for pixels, example in zip(batch.pixels, examples, strict=True):
        height, width = example.pixels.shape[1:]
        assert torch.equal(pixels[:, :height, :width], example.pixels)
        assert int(pixels.long().sum()) == int(example.pixels.long().sum())
    assert batch.image_sizes == ((30, 65), (40, 20))
    assert batch.original_sizes == ((60, 130), (80, 40))
    assert (batch.image_ids, batch.positions) == ((104, 105), (4, 5))
    assert batch.targets == tuple(example.target for example in examples)


def test_sizes_that_fit_are_not_padded() -> None:
    assert collate([_example(32, 64, 0)]).pixels.shape == (1, 3, 32, 64)


def test_clean_pixels_are_shared_unless_an_example_was_augmented() -> None:
    plain = collate([_example(8, 8, 0), _example(8, 8, 1)])
    assert plain.clean_pixels is plain.pixels
    clean = torch.full((3, 8, 8), 7, dtype=torch.uint8)
    mixed = collate([_example(8, 8, 0), _example(8, 8, 1, clean)])
    assert mixed.clean_pixels.shape == mixed.pixels.shape
    assert torch.equal(mixed.clean_pixels[0], mixed.pixels[0])
    assert torch.equal(mixed.clean_pixels[1, :, :8, :8], clean)
