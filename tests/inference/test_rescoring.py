"""Scores that know the mask: hand-computed numbers, a loop, the order of the detections, padding; the presets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from cis_seg.config.plain import chosen_inference
from cis_seg.config.schema import InferenceConfig
from cis_seg.errors import ConfigError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.rescoring import mean_mask_scores, rescored
from cis_seg.ops.grids import pyramid_locations
from cis_seg.structures import Batch, DensePredictions, Instances
from runs import composed


def test_by_hand() -> None:
    """Mean scores 0.8 (of 0.9 and 0.7), 0.6, none: sqrt(0.5 x 0.8), sqrt(0.9 x 0.6), 0."""
    masks = torch.tensor([[[0.9, 0.1], [0.7, 0.5]], [[0.6, 0.2], [0.3, 0.1]], [[0.4, 0.5], [0.1, 0.0]]]).logit(eps=1e-6)
    torch.testing.assert_close(mean_mask_scores(masks), torch.tensor([0.8, 0.6, 0.0]))
    scores, order = rescored(torch.tensor([0.5, 0.9, 1.0]), masks)
    torch.testing.assert_close(scores, torch.tensor([0.54**0.5, 0.4**0.5, 0.0]))
    assert order.tolist() == [1, 0, 2]
    assert rescored(torch.zeros(0), torch.zeros(0, 4, 6))[1].tolist() == []


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_equals_a_loop(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, given = torch.randn(7, 5, 6, generator=generator), torch.rand(7, generator=generator)
    expected = []
    for score, mask in zip(given.tolist(), logits.sigmoid().tolist(), strict=True):
        inside = [value for row in mask for value in row if value > threshold]
        expected.append((score * sum(inside) / len(inside)) ** 0.5)
    scores, order = rescored(given, logits, threshold)
    torch.testing.assert_close(scores, torch.tensor(sorted(expected, reverse=True)))
    torch.testing.assert_close(scores, torch.tensor(expected)[order])


def test_equal_scores_stay_in_their_order() -> None:
    assert rescored(torch.full((5,), 0.5), torch.full((5, 2, 2), 3.0))[1].tolist() == [0, 1, 2, 3, 4]


def _found(logits: Tensor, options: InferenceConfig, size: tuple[int, int] = (64, 96)) -> Instances:
    """Two people at (12, 12) and (60, 20) of an image of 64 x 96 pixels, whose masks are ``logits (2, 16, 24)``; the first scores 0.9, the
    other 0.8."""
    grid = pyramid_locations([(8, 12)], [8], torch.device("cpu"))
    places = [int((grid.xy == torch.tensor(xy)).all(dim=1).nonzero()) for xy in ([12.0, 12.0], [60.0, 20.0])]
    classes, sides = torch.zeros(1, 96, 1), torch.ones(1, 96, 4)
    classes[0, places, 0] = torch.tensor([0.81, 0.64])
    sides[0, places[1]] = 0.5
    dense = DensePredictions(
        classes.logit(eps=1e-9), sides, torch.full((1, 96), 99.0), torch.zeros(1, 96, 0), torch.zeros(1, 1, 8, 12), grid
    )
    pixels = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    model = SimpleNamespace(mask_logits=lambda _, samples: logits[[places.index(k) for k in samples.loc_inds.tolist()]])
    (found,) = Postprocess(masks=options)(model, dense, Batch(pixels, pixels, (size,), (size,), (0,), (0,), ()))  # type: ignore[arg-type]
    return found


def test_boxes_and_masks_follow_their_scores() -> None:
    logits = torch.full((2, 16, 24), -9.0)
    logits[0, :2], logits[1, :6] = 0.2, 9.0  # unclear, in 8 rows of the image; clear, in 24
    before, after = (_found(logits, InferenceConfig(rescore=option)) for option in (False, True))
    assert before.scores.tolist() == pytest.approx([0.9, 0.8])
    assert after.scores.tolist() == pytest.approx([(0.8 * torch.tensor(9.0).sigmoid().item()) ** 0.5, (0.9 * 0.54983) ** 0.5], rel=1e-4)
    assert torch.equal(after.boxes, before.boxes.flip(0))
    assert after.boxes[0].tolist() == [56, 16, 64, 24]
    assert after.masks == before.masks[::-1]
    assert coco_mask.area(after.masks[0]) > 2 * coco_mask.area(after.masks[1])


def test_masks_in_the_padding_do_not_count() -> None:
    logits = torch.full((2, 16, 24), 2.0)
    logits[:, 10:] = logits[:, :, 19:] = 0.1  # an image of 40 x 76 pixels: 10 rows and 19 columns have their pixel in it
    clear = torch.tensor(2.0).sigmoid().item()
    assert _found(logits, InferenceConfig(rescore=True), (40, 76)).scores.tolist() == pytest.approx(
        [(s * clear) ** 0.5 for s in (0.9, 0.8)]
    )
    assert _found(logits, InferenceConfig(rescore=True), (42, 78)).scores[0] == pytest.approx((0.9 * clear) ** 0.5), "42 ends before 42.5"


# ---------------------------------------------------------------- presets
def test_reference_changes_nothing() -> None:
    for name, node in (("config", "eval"), ("evaluate", "eval")):
        assert composed(name=name)[node] == composed("inference=reference", name=name)[node]
        assert not any(composed(name=name)[node][option] for option in vars(InferenceConfig()))
    assert chosen_inference("reference") == InferenceConfig() == InferenceConfig(*[False] * 4)


def test_best_sets_what_is_not_set() -> None:
    best = chosen_inference("best")
    assert best == InferenceConfig(refine=True, flip=True, rescore=True)
    assert chosen_inference("best", refine=False, rescore=None) == InferenceConfig(flip=True, rescore=True)
    needed = ("checkpoint=a", "input=b", "output=c")
    for cfg in (composed("inference=best").eval, composed("inference@_global_=best", *needed, name="predict")):
        assert {option: cfg[option] for option in vars(best)} == vars(best)
    assert composed("inference=best", "eval.refine=false", name="evaluate").eval.refine is False
    with pytest.raises(ConfigError, match=r"(?s)no such preset.*best, reference.*fast"):
        chosen_inference("fast")
