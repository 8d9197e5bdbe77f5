"""The colours inside a mask against those around its box."""

from __future__ import annotations

import math

import torch

import oracles
from cis_seg.ops.color import ColorModel
from cis_seg.ops.masks import windows_around
from cis_seg.ops.mean_field import mean_field

SHIRT, GROUND = [60.0, 40.0, 20.0], [40.0, -30.0, 10.0]
LEGS = [2, 3, 4, 9, 10, 11]


def scene() -> tuple[torch.Tensor, ...]:
    """A person of two legs, 3 px each, and 4 px of ground between them, in a box of 10 px; the mask covers the ground too."""
    colors = torch.tensor(GROUND)[None, :, None, None].repeat(1, 1, 4, 14)
    for column in LEGS:
        colors[0, :, :, column] = torch.tensor(SHIRT)[:, None]
    box, around = torch.zeros(1, 4, 14, dtype=torch.bool), torch.ones(1, 4, 14, dtype=torch.bool)
    box[..., 2:12] = True
    return box * 0.9, colors, box, around, torch.tensor([0])


def evidence_of(scores: torch.Tensor, colors: torch.Tensor, box: torch.Tensor, around: torch.Tensor, im_inds: torch.Tensor) -> torch.Tensor:
    """The evidence in the boxes, 0 elsewhere, ``(N, h, w)``."""
    model, result = ColorModel.of(colors, box, around, im_inds), torch.zeros(box.shape)
    for windows in windows_around(box, at_once=2):
        inside = windows.cut(box, windows.chosen)
        windows.paste(model(windows.cut(scores, windows.chosen) * inside, windows) * inside, result)
    return result


def test_by_hand() -> None:
    evidence = evidence_of(*scene())
    shirt, ground = math.log((0.6 + 1e-3) / 1e-3), math.log((0.4 + 1e-3) / (1 + 1e-3))
    expected = torch.zeros(1, 4, 14)
    expected[..., 2:12] = ground
    expected[..., LEGS] = shirt
    torch.testing.assert_close(evidence, expected)


def test_equals_the_loop() -> None:
    """Boxes of several sizes over two images, whose colours lie in many bins."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.tensor([50.0, 0, 0])[:, None, None] + 16 * torch.randn(2, 3, 9, 11, generator=generator)
    box = torch.zeros(3, 9, 11, dtype=torch.bool)
    around = box.clone()
    box[0, 1:5, 2:5] = box[1, 3:9, 5:11] = box[2, :, 4:6] = True
    around[0, 0:7, 0:7] = around[1, 1:, 3:] = around[2, :, 2:9] = True
    scores, im_inds = torch.rand(3, 9, 11, generator=generator), torch.tensor([1, 0, 1])
    expected = [
        oracles.color_evidence(p.tolist(), colors[i].tolist(), b.tolist(), a.tolist())
        for p, i, b, a in zip(scores, im_inds, box, around, strict=True)
    ]
    torch.testing.assert_close(evidence_of(scores, colors, box, around, im_inds), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_ground_that_a_mask_covers_is_left() -> None:
    scores, colors, box, around, im_inds = scene()
    assert (mean_field(scores, colors, box, im_inds)[..., 2:12] > 0.5).all(), "its edges alone do not show it"
    model = ColorModel.of(colors, box, around, im_inds, weight=3.0, margin=2.0)
    refined = mean_field(scores, colors, box, im_inds, evidence=model) > 0.5
    assert refined[0].any(dim=0).nonzero().flatten().tolist() == refined[0].all(dim=0).nonzero().flatten().tolist() == LEGS


def test_each_instance_has_its_own_colours_and_image() -> None:
    scores, colors, box, around, im_inds = scene()
    three = (x.repeat(3, 1, 1) for x in (scores, box, around))
    masks, boxes, surroundings = three
    both = evidence_of(masks, torch.cat([colors.roll(3, dims=3), colors]), boxes, surroundings, torch.tensor([1, 0, 1]))
    alone = evidence_of(scores, colors, box, around, im_inds)
    assert torch.equal(both[0], alone[0])
    assert torch.equal(both[2], alone[0])
    assert not torch.equal(both[1], alone[0])


def test_empty_masks_no_surroundings_and_extreme_colours_are_finite() -> None:
    scores, colors, box, around, im_inds = scene()
    assert evidence_of(scores * 0, colors * 1e3, box, around & False, im_inds).abs().max() == 0
    assert evidence_of(scores[:0], colors, box[:0], around[:0], im_inds[:0]).shape == (0, 4, 14)
    half = evidence_of(scores.bfloat16(), colors, box, around, im_inds)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
