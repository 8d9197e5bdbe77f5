"""Masks of given boxes, averaged over several sizes of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.config.schema import MaskConfig, ModelConfig
from cis_seg.data.transforms import TestTransform
from cis_seg.inference import box_masks
from cis_seg.inference.box_masks import BoxMask, BoxMasker
from cis_seg.inference.postprocess import masks_in_boxes
from cis_seg.inference.predictor import Trained
from cis_seg.structures import RLE, Batch
from tiny_model import tiny_model

IMAGE = np.random.default_rng(0).integers(0, 256, (66, 90, 3), dtype=np.uint8)
BOXES = [(10.0, 8.0, 50.0, 56.0), None, (60.0, 20.0, 80.0, 60.0)]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Batch]]:
    """The scores (n, h, w) of each call that renders masks, and the batch of their grid."""
    calls: list[tuple[Tensor, Batch]] = []

    def capture(logits: Tensor, batch: Batch, *options: Any) -> tuple[RLE, ...]:
        calls.append((logits.sigmoid(), batch))
        return masks_in_boxes(logits, batch, *options)

    monkeypatch.setattr(box_masks, "masks_in_boxes", capture)
    return calls


def _masks(*scales: float, **options: bool) -> list[BoxMask]:
    model = tiny_model().eval()
    torch.nn.init.normal_(model.head.get_parameter("controller.weight"), std=0.5, generator=torch.Generator().manual_seed(1))
    trained = Trained(model, ModelConfig(), ("person", "dog"), (1, 2), {})
    masker = BoxMasker(trained, TestTransform(size=64, max_size=96), torch.device("cpu"), MaskConfig(**options), scales)
    return masker(IMAGE, BOXES, [0, 0, -1])


@pytest.mark.parametrize("options", [{}, {"flip": True}])
@pytest.mark.parametrize("scales", [(1, 1.5), (1.5, 1)])
def test_scores_are_averaged_on_the_finest_grid(
    scales: tuple[float, ...], options: dict[str, bool], rendered: list[tuple[Tensor, Batch]]
) -> None:
    both, (small, large) = _masks(*scales, **options), (_masks(scale, **options) for scale in (1, 1.5))
    (mean, grid), (first, of_first), (second, of_second) = rendered
    assert of_first.image_sizes == ((64, 87),)
    assert grid.image_sizes == of_second.image_sizes == ((96, 131),)
    cells = second.shape[-2], second.shape[-1]
    enlarged = [oracles.resampled(mask, 4, (64, 87), cells, 4, (96, 131)) for mask in first.tolist()]
    torch.testing.assert_close(mean, (torch.tensor(enlarged) + second) / 2, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mean, second, atol=0.05)
    alone = small if scales[0] == 1 else large
    assert [mask.confidence for mask in both] == [mask.confidence for mask in alone], "of the first scale"
    assert [mask.label for mask in both] == [mask.label for mask in alone]


def test_other_options_apply_to_the_average() -> None:
    plain, cut, refined = (_masks(1, 1.5, **options) for options in ({}, {"cut_to_box": True}, {"refine": True}))
    assert plain[0].mask != cut[0].mask != refined[0].mask
    assert plain[1] == cut[1] == refined[1], "a box that is none"


def test_the_same_scale_twice_changes_no_pixel() -> None:
    assert [mask.mask for mask in _masks(1, 1)] == [mask.mask for mask in _masks(1)]
