"""Resizing, flipping, clipping, colours, and padding into a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from cis_seg.data.batches import collate
from cis_seg.data.records import Sample
from cis_seg.data.transforms import Example, TestTransform, TrainTransform, resized, resized_size
from cis_seg.errors import ConfigError
from cis_seg.structures import RLE, Target


def _code(mask: NDArray[Any]) -> RLE:
    code: RLE = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return code


def _sample(
    height: int = 30, width: int = 40, boxes: list[list[float]] | None = None, masks: tuple[RLE | None, ...] | None = None
) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    array = np.array(boxes if boxes is not None else [[4, 6, 20, 30]], dtype=np.float32).reshape(-1, 4)
    return Sample(image, array, np.arange(len(array), dtype=np.int64), masks, 5, Path("5.jpg"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640, 800, 1333), (800, 1067)),  # truncating would give 1066
        ((640, 480, 800, 1333), (1067, 800)),
        ((427, 640, 800, 1333), (800, 1199)),
        ((400, 1000, 800, 1333), (533, 1333)),  # the longer side decides
        ((1000, 400, 800, 1333), (1333, 533)),
        ((500, 500, 384, 1333), (384, 384)),
        ((1, 4000, 800, 1333), (1, 1333)),  # never without pixels
    ],
)
def test_resize_rule(size: tuple[int, int, int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size) == expected


@pytest.mark.parametrize(("height", "width"), [(11, 17), (45, 60), (30, 20)])
def test_resizing_is_antialiased_bilinear(height: int, width: int) -> None:
    """Against a slow oracle: a triangle as wide as the coarser of the two grids, per axis, in floating point."""

    def weights(old: int, new: int) -> NDArray[np.float64]:
        reach = max(old / new, 1.0)
        centres = (np.arange(new) + 0.5) * old / new
        distance = np.abs(np.arange(old)[None] + 0.5 - centres[:, None]) / reach
        raw = np.clip(1 - distance, 0, None)
        return np.asarray(raw / raw.sum(1, keepdims=True))

    image = _sample().image
    expected = np.einsum("ij,jkc,lk->ilc", weights(30, height), image.astype(np.float64), weights(40, width))
    assert np.abs(resized(image, height, width) - expected).max() <= 1.01  # PIL rounds after each axis


def test_test_transform_scales_boxes_and_masks() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[6:30, 4:20] = True
    example = TestTransform(size=60, max_size=100)(_sample(masks=(_code(mask),)), 3)
    assert example.pixels.shape == (3, 60, 80)
    assert example.pixels.dtype == torch.uint8
    assert example.clean_pixels is example.pixels
    assert (example.image_id, example.original_size, example.position) == (5, (30, 40), 3)
    assert example.target.boxes.tolist() == [[8, 12, 40, 60]]
    assert example.target.labels.tolist() == [0]
    masks = example.target.masks
    assert masks is not None
    assert masks.dtype == torch.bool
    np.testing.assert_array_equal(masks[0].numpy(), mask.repeat(2, 0).repeat(2, 1))


def test_scores_of_masks_follow_their_instances() -> None:
    """A box that vanishes takes its score along; an instance without a mask, or with an empty one, has a score of 0."""
    whole, nothing = np.ones((30, 40), dtype=bool), np.zeros((30, 40), dtype=bool)
    boxes = [[0.0, 0, 10, 10], [5, 5, 5, 9], [2, 2, 20, 20], [3, 3, 30, 30]]
    sample = _sample(boxes=boxes, masks=(_code(whole), _code(whole), None, _code(nothing)))
    scored = replace(sample, mask_scores=np.array([0.7, 0.9, 0.0, 1.0], dtype=np.float32))
    target = TestTransform(size=60, max_size=100)(scored, 0).target
    assert target.mask_scores is not None
    assert target.mask_scores.tolist() == pytest.approx([0.7, 0, 0])
    assert TestTransform(size=60, max_size=100)(sample, 0).target.mask_scores is None


def test_flip_turns_pixels_boxes_and_masks_together() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[6:30, 4:20] = True
    sample = _sample(masks=(_code(mask),))
    plain = TrainTransform(sizes=[30], max_size=100, flip=0.0)(sample, 0)
    turned = TrainTransform(sizes=[30], max_size=100, flip=1.0)(sample, 0)
    assert torch.equal(turned.pixels, plain.pixels.flip(2))
    assert torch.equal(plain.pixels.permute(1, 2, 0), torch.from_numpy(sample.image))
    assert plain.target.boxes.tolist() == [[4, 6, 20, 30]]
    assert turned.target.boxes.tolist() == [[20, 6, 36, 30]]
    assert turned.target.masks is not None
    assert plain.target.masks is not None
    assert torch.equal(turned.target.masks, plain.target.masks.flip(2))


def test_boxes_are_clipped_and_empty_ones_dropped_with_their_masks() -> None:
    codes = tuple(_code(np.full((30, 40), value)) for value in (False, True, True))
    sample = _sample(boxes=[[50, 3, 60, 9], [-5, -5, 10, 10], [30, 20, 90, 90]], masks=codes)
    target = TestTransform(size=30, max_size=40)(sample, 0).target
    assert target.boxes.tolist() == [[0, 0, 10, 10], [30, 20, 40, 30]]
    assert target.labels.tolist() == [1, 2]
    assert target.masks is not None
    assert target.masks.all()
    assert target.masks.shape == (2, 30, 40)


def test_an_image_without_boxes() -> None:
    target = TrainTransform(sizes=[30], max_size=40)(_sample(boxes=[], masks=()), 0).target
    assert target.boxes.shape == (0, 4)
    assert target.labels.shape == (0,)
    assert target.masks is not None
    assert target.masks.shape == (0, 30, 40)


def test_sizes_and_flips_are_drawn_evenly() -> None:
    transform = TrainTransform(sizes=range(15, 18), max_size=100, seed=1)
    sample = _sample()
    examples = [transform(sample, position) for position in range(600)]
    counts = torch.bincount(torch.tensor([example.pixels.shape[1] for example in examples]))
    assert counts[:15].sum() == 0
    assert counts[15:].min() > 150
    flipped = sum(bool(example.target.boxes[0, 0] > 5) for example in examples)
    assert 240 < flipped < 360


def test_the_first_examples_are_half_as_large() -> None:
    """Up to position 3 as with sides half as long, rounded up; from then on as without the option. The draws stay the same."""
    halved = TrainTransform(sizes=[29, 33], max_size=61, seed=1, half_size=3)
    half, full = TrainTransform(sizes=[15, 17], max_size=31, seed=1), TrainTransform(sizes=[29, 33], max_size=61, seed=1)
    for position in range(6):
        found, expected = (transform(_sample(), position) for transform in (halved, half if position < 3 else full))
        assert torch.equal(found.pixels, expected.pixels)
        assert torch.equal(found.target.boxes, expected.target.boxes)
        assert halved.drawn(position)[:2] == full.drawn(position)[:2]


@pytest.mark.parametrize("photometric", ["none", "light", "strong"])
def test_an_example_depends_on_seed_and_position_alone(photometric: Any) -> None:
    def examples(seed: int, positions: list[int]) -> dict[int, torch.Tensor]:
        transform = TrainTransform(sizes=[30, 33], max_size=100, photometric=photometric, seed=seed)
        return {position: transform(_sample(), position).pixels for position in positions}

    forward, backward = examples(0, list(range(12))), examples(0, list(range(11, -1, -1)))
    assert all(torch.equal(forward[position], backward[position]) for position in range(12))
    other = examples(1, list(range(12)))
    assert not all(forward[p].shape == other[p].shape and torch.equal(forward[p], other[p]) for p in range(12))


@pytest.mark.parametrize("photometric", ["light", "strong"])
def test_colours_change_only_in_the_augmented_copy(photometric: Any) -> None:
    plain = TrainTransform(sizes=[30, 33], max_size=100, seed=2)
    augmented = TrainTransform(sizes=[30, 33], max_size=100, seed=2, photometric=photometric)
    changed = 0
    for position in range(10):
        expected, found = plain(_sample(), position), augmented(_sample(), position)
        assert torch.equal(found.clean_pixels, expected.pixels)
        assert torch.equal(found.target.boxes, expected.target.boxes)
        assert found.pixels.shape == expected.pixels.shape
        assert found.pixels.dtype == torch.uint8
        changed += not torch.equal(found.pixels, found.clean_pixels)
    assert changed >= 4


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_sizes[\s\S]*longer at most 700"):
        TrainTransform(sizes=[640, 800], max_size=700)
    with pytest.raises(ConfigError, match="train_sizes"):
        TrainTransform(sizes=[], max_size=700)
    with pytest.raises(ConfigError, match="test_size"):
        TestTransform(size=0, max_size=700)


def test_ignore_regions_are_resized_flipped_and_cut_like_boxes() -> None:
    sample = replace(_sample(boxes=[[4, 6, 20, 30]]), ignore_boxes=np.array([[4, 6, 20, 30], [30, 0, 40, 10]], dtype=np.float32))
    for flip in (0.0, 1.0):
        target = TrainTransform(sizes=[60], max_size=200, flip=flip)(sample, 0).target
        assert target.ignore_boxes is not None
        assert torch.equal(target.ignore_boxes[0], target.boxes[0])
        assert target.ignore_boxes[1].tolist() == ([0, 0, 20, 20] if flip else [60, 0, 80, 20])
    assert TestTransform(size=60, max_size=200)(_sample(), 0).target.ignore_boxes is None
    moved = target.to("cpu")
    assert moved.ignore_boxes is not None
    assert torch.equal(moved.ignore_boxes, target.ignore_boxes)


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
