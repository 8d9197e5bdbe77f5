"""Postprocess: the reference's masks and boxes, a loop of the selection, thresholds, NMS, empty results, images of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

import oracles
from cis_seg.config.schema import DetectionConfig, InferenceConfig
from cis_seg.inference import postprocess
from cis_seg.inference.postprocess import Postprocess, render_masks
from cis_seg.structures import Batch, DensePredictions, Instances, Locations, MaskSamples
from golden_arrays import isolated_arrays, isolated_json
from tiny_model import ORIGINALS, PADDED, SIZES, tiny_batch, tiny_model

MaskRenderer = Callable[[DensePredictions, MaskSamples], Tensor]


def _dense(
    boxes: list[list[float]], cls_scores: list[list[float]], ctr_scores: list[float], levels: list[int] | None = None
) -> DensePredictions:
    """One image whose k-th location stands in the middle of the k-th box."""
    corners = torch.tensor(boxes).view(-1, 4)
    locations = ((corners[:, :2] + corners[:, 2:]) / 2).floor()
    level_inds = torch.tensor(levels or [0] * len(boxes), dtype=torch.int64)
    strides = 8.0 * 2**level_inds
    ltrb = torch.cat([locations - corners[:, :2], corners[:, 2:] - locations], dim=1) / strides[:, None]
    cls_logits, ctr_logits = torch.tensor([cls_scores]).logit(), torch.tensor([ctr_scores]).logit()
    nothing, alone = torch.zeros(1, len(boxes), 0), torch.full((len(boxes), 9), -1)
    return DensePredictions(
        cls_logits, ltrb[None], ctr_logits, nothing, torch.zeros(1, 1, 8, 12), Locations(locations, strides, level_inds, alone)
    )


def _blank(dense: DensePredictions, samples: MaskSamples) -> Tensor:
    return torch.full((len(samples.loc_inds), 16, 24), -9.0)


def _postprocessed(
    renderer: MaskRenderer,
    dense: DensePredictions,
    size: tuple[int, int],
    original: tuple[int, int],
    padded: tuple[int, int] = PADDED,
    masks: InferenceConfig | None = None,
) -> Instances:
    """The instances of one image whose masks ``renderer`` makes."""
    pixels = torch.zeros(1, 3, *padded, dtype=torch.uint8)
    batch = Batch(pixels, pixels, (size,), (original,), (0,), (0,), ())
    (found,) = Postprocess(masks=masks or InferenceConfig())(SimpleNamespace(mask_logits=renderer), dense, batch)  # type: ignore[arg-type]
    return found


def _found(post: Postprocess, dense: DensePredictions) -> list[tuple[int, int, float]]:
    locs, labels, scores, _ = post.detect(dense, 0)
    return list(zip(locs.tolist(), labels.tolist(), scores.tolist(), strict=True))


# ---------------------------------------------------------------- the reference's numbers
def test_golden(golden: Path) -> None:
    prob, expected = isolated_arrays(golden, "post_prob_stride4", "post_masks")
    post = isolated_json(golden)["post"]
    sizes = [tuple(post[name]) for name in ("resized_hw", "out_hw", "padded_hw")]
    dense = _dense(post["in_boxes"], [[0.9], [0.8], [0.7]], [0.999999] * 3)
    found = _postprocessed(lambda _, samples: prob.logit()[samples.loc_inds, 0], dense, *sizes)
    assert len(found.boxes) == len(found.masks) == post["kept"] == 2, "the third box is empty after clipping"
    torch.testing.assert_close(found.boxes, torch.tensor(post["out_boxes"]), rtol=1e-6, atol=1e-5)
    assert np.array_equal(coco_mask.decode(list(found.masks)).transpose(2, 0, 1), expected.numpy())
    assert coco_mask.area(list(found.masks)).tolist() == post["areas"] == [2250, 2298]
    assert found.image_size == (45, 101)
    assert all(mask["size"] == [45, 101] for mask in found.masks)


# ---------------------------------------------------------------- selection
@pytest.mark.parametrize("seed", range(4))
def test_selection_equals_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(80, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(80, 2, generator=generator)], dim=1).tolist()
    cls_scores = torch.rand(80, 3, generator=generator).tolist()
    ctr_scores = torch.rand(80, generator=generator).tolist()
    levels = torch.arange(80).mul(3).div(80, rounding_mode="floor").tolist()
    post = Postprocess(DetectionConfig(score_threshold=0.1, nms_threshold=0.4, max_detections=60), candidates_per_level=40)
    found = _found(post, _dense(boxes, cls_scores, ctr_scores, levels))
    expected = oracles.detect(cls_scores, ctr_scores, boxes, levels, 0.1, 40, 0.4, 60)
    assert len(expected) > 20
    assert [(k, c) for k, c, _ in found] == [(k, c) for k, c, _ in expected]
    assert [score for *_, score in found] == pytest.approx([score for *_, score in expected], rel=1e-5)


def test_score_is_the_root_of_class_times_centerness() -> None:
    post = Postprocess()
    boxes: list[list[float]] = [[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60], [40, 40, 60, 60]]
    found = _found(post, _dense(boxes, [[0.5], [0.9], [0.1], [0.1]], [0.5, 0.4, 0.49, 0.51]))
    # products 0.25, 0.36, 0.049 and 0.051: the threshold is on the product, not on the root
    assert [k for k, *_ in found] == [1, 0, 3]
    assert [score for *_, score in found] == pytest.approx([0.6, 0.5, 0.051**0.5])


def test_location_can_detect_two_classes() -> None:
    found = _found(Postprocess(), _dense([[0.0, 0, 20, 20]], [[0.6, 0.01, 0.8]], [0.9]))
    assert [(k, c) for k, c, _ in found] == [(0, 2), (0, 0)]


def test_nms_is_per_class_and_keeps_boxes_at_the_threshold() -> None:
    boxes: list[list[float]] = [[0.0, 0, 20, 20], [0, 0, 20, 19], [0, 0, 20, 18], [0, 0, 20, 10]]
    found = _found(
        Postprocess(DetectionConfig(nms_threshold=0.5)), _dense(boxes, [[0.9, 0.01], [0.8, 0.01], [0.01, 0.7], [0.6, 0.01]], [0.9] * 4)
    )
    # IoU with the first: 0.95 (gone), 0.9 but another class, 0.5 exactly
    assert [k for k, *_ in found] == [0, 2, 3]
    assert [k for k, *_ in _found(Postprocess(DetectionConfig(nms_threshold=0.49)), _dense(boxes[::3], [[0.9], [0.8]], [0.9] * 2))] == [0]


def test_candidates_per_level_and_detections_per_image_are_limited() -> None:
    boxes = [[30.0 * (i % 40), 30.0 * (i // 40), 30.0 * (i % 40) + 20, 30.0 * (i // 40) + 20] for i in range(1206)]
    scores = [[0.3 + i / 2000] for i in range(1206)]
    dense = _dense(boxes, scores, [0.9] * 1206, [0] * 1203 + [2] * 3)
    found = [k for k, *_ in _found(Postprocess(DetectionConfig(max_detections=5000)), dense)]
    assert found == list(range(1205, 202, -1)), "1000 of the 1203 of the first level, and all of the third"
    assert [k for k, *_ in _found(Postprocess(), dense)] == list(range(1205, 1105, -1))
    tied = _dense(boxes, [[0.5]] * 1206, [0.9] * 1206)
    assert len(_found(Postprocess(), tied)) == 100, "never more, also where scores tie"


def test_boxes_at_the_original_size() -> None:
    dense = _dense([[10.0, 20, 50, 40], [-10, -10, 30, 30], [60, 10, 120, 80], [71, 10, 90, 40]], [[0.9], [0.8], [0.7], [0.6]], [0.9] * 4)
    found = _postprocessed(_blank, dense, (50, 70), (100, 210))
    # twice the height, three times the width; the last box lies in the padding
    assert found.boxes.tolist() == [[30, 40, 150, 80], [0, 0, 90, 60], [180, 20, 210, 100]]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert len(found.masks) == len(found.labels) == 3


def test_nothing_found() -> None:
    model, batch = tiny_model().eval(), tiny_batch()
    with torch.no_grad():
        dense = model(model.normalize(batch.pixels, SIZES))
    for found, original in zip(Postprocess()(model, dense, batch), ORIGINALS, strict=True):
        assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
        assert found.masks == ()
        assert found.image_size == original


# ---------------------------------------------------------------- masks
def test_masks_are_not_clipped_to_their_boxes() -> None:
    dense = _dense([[10.0, 20, 20, 30]], [[0.9]], [0.9])
    found = _postprocessed(lambda *_: torch.full((1, 16, 24), 9.0), dense, (50, 70), (100, 140))
    assert coco_mask.area(list(found.masks)).tolist() == [100 * 140]


def test_masks_are_cut_to_their_boxes_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = _dense([[10.0, 20, 20, 30], [-8, 40, 31, 58]], [[0.9], [0.8]], [0.9, 0.9])
    monkeypatch.setattr(postprocess, "MAX_PIXELS_AT_ONCE", 1)  # each mask meets its own box
    cut, refined = (
        _postprocessed(lambda *_: torch.full((2, 16, 24), 9.0), dense, (50, 70), (100, 140), masks=masks).masks
        for masks in (InferenceConfig(cut_to_box=True), InferenceConfig(refine=True))
    )
    assert [coco_mask.toBbox(mask).tolist() for mask in cut] == [[20, 40, 20, 20], [0, 80, 62, 20]]
    assert coco_mask.area(list(cut)).tolist() == [20 * 20, 62 * 20]
    for whole, mask in zip(cut, refined, strict=True):
        assert coco_mask.area(coco_mask.merge([whole, mask])) == coco_mask.area(whole)
    nothing = _postprocessed(
        _blank, _dense([[10.0, 20, 20, 30]], [[0.01]], [0.1]), (50, 70), (100, 140), masks=InferenceConfig(refine=True)
    )
    assert nothing.masks == ()


def test_padding_is_cut_before_the_resize() -> None:
    logits = torch.full((1, 16, 24), -9.0)
    logits[:, 14:] = logits[:, :, 19:] = 9.0  # rows from 56 and columns from 76: the image ends at 50 and 70
    (mask,) = render_masks(logits, (50, 70), (100, 140), PADDED)
    assert coco_mask.area(mask) == 0
    (mask,) = render_masks(logits, PADDED, PADDED, PADDED)
    assert coco_mask.area(mask) > 0.2 * 64 * 96


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_probabilities_are_interpolated_not_logits(size: tuple[int, int]) -> None:
    """Between scores of 0.9 and 0.2 the border stands where the score is 0.5, not where the logit is 0."""
    logits = torch.tensor([0.9, 0.2]).logit().repeat_interleave(12).expand(1, 16, 24)
    (mask,) = render_masks(logits, size, size, PADDED)
    scores = torch.tensor(oracles.aligned_bilinear(logits[0].sigmoid().tolist(), 4))[: size[0], : size[1]]
    assert np.array_equal(coco_mask.decode(mask), (scores > 0.5).numpy())
    columns = coco_mask.decode(mask)[0].nonzero()[0]
    assert columns.tolist() == list(range(49)), "0.9 at 46, 0.2 at 50: 0.55 at 48, 0.375 at 49"


def test_chunked_rendering_gives_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 16, 24, generator=torch.Generator().manual_seed(0))
    together = render_masks(logits, (50, 70), (100, 140), PADDED)
    for pixels in (1, 3 * 100 * 140):
        monkeypatch.setattr(postprocess, "MAX_PIXELS_AT_ONCE", pixels)
        assert render_masks(logits, (50, 70), (100, 140), PADDED) == together
    assert len({mask["counts"] for mask in together}) == 7


# ---------------------------------------------------------------- batches
def _image(dense: DensePredictions, index: int) -> DensePredictions:
    """The predictions for one image of a batch."""
    of_batch = ("cls_logits", "ltrb", "ctr_logits", "tower_feats", "mask_feats")
    return replace(dense, **{f.name: getattr(dense, f.name)[index : index + 1] for f in fields(dense) if f.name in of_batch})


@torch.no_grad()
def test_images_of_two_sizes_equal_one_by_one() -> None:
    model, batch = tiny_model().eval(), tiny_batch()
    for name in ("cls_logits", "controller"):
        torch.nn.init.normal_(model.head.get_parameter(f"{name}.weight"), std=0.5, generator=torch.Generator().manual_seed(1))
    torch.nn.init.constant_(model.head.get_parameter("box_pred.bias"), 1.5)
    dense = model(model.normalize(batch.pixels, SIZES))
    post = Postprocess(DetectionConfig(score_threshold=0.05, nms_threshold=0.9, max_detections=20))
    together = post(model, dense, batch)
    for i, found in enumerate(together):
        (alone,) = post(model, _image(dense, i), replace(batch, image_sizes=(SIZES[i],), original_sizes=(ORIGINALS[i],)))
        assert len(found.masks) > 5
        assert found.image_size == alone.image_size == ORIGINALS[i]
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(found, name), getattr(alone, name))
        areas = coco_mask.area(list(found.masks))
        assert coco_mask.area(list(alone.masks)).tolist() == pytest.approx(areas.tolist(), abs=2)
        assert len(set(areas.tolist())) > 3
        assert (found.boxes[:, 2:] <= torch.tensor(ORIGINALS[i][::-1])).all()


def test_bfloat16_predictions() -> None:
    dense = _dense([[10.0, 20, 50, 40]], [[0.9]], [0.8])
    half = replace(dense, **{name: getattr(dense, name).bfloat16() for name in ("cls_logits", "ltrb", "ctr_logits")})
    found = _postprocessed(lambda *_: torch.zeros(1, 16, 24, dtype=torch.bfloat16), half, PADDED, PADDED)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.scores.item() == pytest.approx((0.9 * 0.8) ** 0.5, abs=5e-3)
