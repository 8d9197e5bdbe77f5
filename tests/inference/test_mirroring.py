"""Masks averaged with the mirrored image's: the grid by a slow oracle, locations by hand, the average, images of several widths."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

import oracles
from cis_seg.config.schema import DetectionConfig, InferenceConfig, MaskConfig, ModelConfig
from cis_seg.data.batches import collate
from cis_seg.data.transforms import TestTransform
from cis_seg.inference import box_masks, postprocess
from cis_seg.inference.box_masks import BoxMasker
from cis_seg.inference.given_boxes import fit_given_boxes
from cis_seg.inference.mirroring import average_with_mirrored, mirrored_locations, predict_mirrored, turned_back
from cis_seg.inference.photos import unlabelled
from cis_seg.inference.postprocess import Postprocess, masks_in_boxes
from cis_seg.inference.predictor import Trained
from cis_seg.model.condinst import CondInst
from cis_seg.ops.boxes import has_area
from cis_seg.ops.grids import pyramid_locations
from cis_seg.structures import RLE, Batch, DensePredictions, MaskSamples
from tiny_model import ORIGINALS, SIZES, tiny_batch, tiny_model


@pytest.mark.parametrize(("width", "stride"), [(24, 4), (21, 4), (24, 2), (19, 8), (24, 1)])
def test_equals_turning_at_full_size(width: int, stride: int) -> None:
    """Scores enlarged to the input by a loop, turned there within the image's width, and sampled at the cells' pixels."""
    scores = torch.rand(3, 2, 24 // stride, generator=torch.Generator().manual_seed(0))
    found = turned_back(scores, width, stride)
    for mask, back in zip(scores, found, strict=True):
        full = oracles.aligned_bilinear(mask.tolist(), stride)
        for row in range(2):
            pixels = full[stride // 2 + stride * row][:width][::-1]
            torch.testing.assert_close(back[row, : len(pixels[stride // 2 :: stride])], torch.tensor(pixels[stride // 2 :: stride]))


def test_by_hand() -> None:
    """Stride 2, width 8: the cells' pixels 1, 3, 5, 7 become 6, 4, 2, 0, each halfway between two cells, the last before the first."""
    assert turned_back(torch.tensor([[[0.0, 0.2, 0.6, 0.4]]]), 8, 2).tolist() == [[pytest.approx([0.5, 0.4, 0.1, 0.0])]]


def test_locations_by_hand() -> None:
    grid = pyramid_locations([(4, 8), (2, 4)], [8, 16], torch.device("cpu"))
    given = torch.tensor([0, 9, 32, 39])  # (4, 4), (12, 12), (8, 8), (56, 24)
    assert grid.xy[mirrored_locations(grid, given, 64)].tolist() == [[60, 4], [52, 12], [56, 8], [8, 24]]
    assert grid.xy[mirrored_locations(grid, given, 50)].tolist() == [[44, 4], [36, 12], [40, 8], [8, 24]], "46, 38, 42 and -6"
    assert mirrored_locations(grid, given, 64).ge(32).tolist() == [False, False, True, True], "of the same level"
    assert mirrored_locations(grid, given[:0], 64).tolist() == []


def test_the_average_by_hand() -> None:
    grid = pyramid_locations([(1, 4)], [8], torch.device("cpu"))
    dense = DensePredictions(*(torch.zeros(1, 4, 1) for _ in range(2)), *(torch.zeros(1, 4) for _ in range(3)), grid)
    masks = {3: [0.1, 0.3, 0.5, 0.9], 1: [0.2] * 4}  # of the mirrored image, at stride 1: turned back 0.9, 0.5, 0.3, 0.1

    def rendered(_: DensePredictions, samples: MaskSamples) -> Tensor:
        return torch.tensor([[masks[int(k)]] for k in samples.loc_inds]).logit()

    samples = MaskSamples(*(torch.tensor([0, 2]) for _ in range(3)), (2,), (2,))
    given = torch.tensor([[[0.7, 0.7, 0.7, 0.7]], [[0.4, 0.4, 0.4, 1.0]]]).logit()
    found = average_with_mirrored(SimpleNamespace(mask_logits=rendered), dense, samples, given, width=32, stride=8)  # type: ignore[arg-type]
    back = turned_back(torch.tensor([masks[3]]), 32, 8)[0]
    torch.testing.assert_close(found.sigmoid()[0, 0], (0.7 + back) / 2)
    torch.testing.assert_close(found.sigmoid()[1, 0], torch.tensor([0.3, 0.3, 0.3, 0.6]), atol=1e-5, rtol=0)


def _model() -> CondInst:
    model = tiny_model().eval()
    for name in ("cls_logits", "controller"):
        torch.nn.init.normal_(model.head.get_parameter(f"{name}.weight"), std=0.5, generator=torch.Generator().manual_seed(1))
    torch.nn.init.constant_(model.head.get_parameter("box_pred.bias"), 1.5)
    return model


@torch.no_grad()
def test_each_image_is_mirrored_within_its_own_width() -> None:
    model, batch = _model(), tiny_batch()
    dense = predict_mirrored(model, batch)
    for i, (height, width) in enumerate(SIZES):
        pixels = torch.zeros_like(batch.pixels[i : i + 1])
        pixels[:, :, :height, :width] = batch.pixels[i : i + 1, :, :height, :width].flip(3)
        alone = model(model.normalize(pixels, SIZES[i : i + 1]))
        torch.testing.assert_close(dense.cls_logits[i], alone.cls_logits[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dense.mask_feats[i], alone.mask_feats[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_detections_stay_and_masks_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = _model(), tiny_batch()
    dense = model(model.normalize(batch.pixels, SIZES))
    rendered: list[Tensor] = []
    monkeypatch.setattr(postprocess, "masks_in_boxes", lambda logits, *_, **__: rendered.append(logits) or ())
    detection = DetectionConfig(score_threshold=0.05, nms_threshold=0.9, max_detections=20)
    plain, flipped = (Postprocess(detection, masks=InferenceConfig(flip=flip))(model, dense, batch) for flip in (False, True))
    seen = _turned(batch)
    mirrored = model(model.normalize(seen.pixels, SIZES))
    for i, (before, after) in enumerate(zip(plain, flipped, strict=True)):
        assert len(before.scores) > 5
        assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in ("boxes", "scores", "labels"))
        assert not torch.equal(rendered[i], rendered[i + len(SIZES)])
        locs, _, _, boxes = Postprocess(detection).detect(dense, i)
        locs = locs[has_area(clip_boxes_to_image(boxes, SIZES[i]))]
        there = mirrored_locations(dense.locations, locs, SIZES[i][1])
        counts = tuple(len(locs) if k == i else 0 for k in range(len(SIZES)))
        masks = model.mask_logits(mirrored, MaskSamples(torch.full_like(there, i), there, there, counts, counts)).sigmoid()
        expected = (rendered[i].sigmoid() + turned_back(masks, SIZES[i][1], batch.padded_size[0] // masks.shape[1])) / 2
        torch.testing.assert_close(rendered[i + len(SIZES)].sigmoid(), expected, atol=1e-4, rtol=1e-4)
    assert [found.image_size for found in flipped] == list(ORIGINALS)


def _turned(batch: Batch) -> Batch:
    pixels = torch.zeros_like(batch.pixels)
    for i, (height, width) in enumerate(SIZES):
        pixels[i, :, :height, :width] = batch.pixels[i, :, :height, :width].flip(2)
    return replace(batch, pixels=pixels)


@torch.no_grad()
def test_masks_of_given_boxes_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for detections: with the scores of the same location in the mirrored image. The confidence stays."""
    model, pixels = _model(), torch.randint(0, 256, (1, 3, 64, 92), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    transform, image, rendered = TestTransform(size=64, max_size=92), pixels[0].permute(1, 2, 0).numpy(), list[Tensor]()

    def capture(logits: Tensor, batch: Batch, *options: Any) -> tuple[RLE, ...]:
        rendered.append(logits)
        return masks_in_boxes(logits, batch, *options)

    monkeypatch.setattr(box_masks, "masks_in_boxes", capture)
    trained = Trained(model, ModelConfig(), ("person", "dog"), (1, 2), {})
    maskers = [BoxMasker(trained, transform, torch.device("cpu"), MaskConfig(flip=flip)) for flip in (False, True)]
    (plain,), (flipped,) = (masker(image, [(10.0, 8.0, 50.0, 56.0)], [0]) for masker in maskers)
    assert plain.confidence == flipped.confidence > 0
    batch = collate([unlabelled(image, transform)])
    dense, mirrored = model(model.normalize(batch.pixels, batch.image_sizes)), predict_mirrored(model, batch)
    fits = fit_given_boxes(
        dense, 0, torch.tensor([[10.0, 8, 50, 56]]), torch.tensor([0]), padded_size=batch.padded_size, size_ranges=ModelConfig().size_ranges
    )
    there, zero = mirrored_locations(dense.locations, fits.loc_inds, 92), torch.tensor([0])
    back = turned_back(model.mask_logits(mirrored, MaskSamples(zero, there, zero, (1,), (1,))).sigmoid(), 92, 4)
    torch.testing.assert_close(rendered[1].sigmoid(), (rendered[0].sigmoid() + back) / 2, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(rendered[1], rendered[0], atol=0.1)
