"""The colours inside a mask against those around its box."""

from __future__ import annotations

import math

import torch

from cis_seg.ops.color import color_evidence
from cis_seg.ops.mean_field import mean_field

SHIRT, GROUND = [60.0, 40.0, 20.0], [40.0, -30.0, 10.0]
LEGS = [2, 3, 4, 9, 10, 11]


def scene() -> tuple[torch.Tensor, ...]:
    """A person of two legs, 3 px each, and 4 px of ground between them, in a box of 10 px; the mask covers the ground too."""
    colors = torch.tensor(GROUND)[None, :, None, None].repeat(1, 1, 4, 14)
    for column in LEGS:
        colors[0, :, :, column] = torch.tensor(SHIRT)[:, None]
    box, around = torch.zeros(1, 4, 14), torch.ones(1, 4, 14)
    box[..., 2:12] = 1
    return box * 0.9, colors, box, around, torch.tensor([0])


def test_by_hand() -> None:
    evidence = color_evidence(*scene())
    shirt, ground = math.log((0.6 + 1e-3) / 1e-3), math.log((0.4 + 1e-3) / (1 + 1e-3))
    expected = torch.full((1, 4, 14), ground)
    expected[..., LEGS] = shirt
    torch.testing.assert_close(evidence, expected)


def test_ground_that_a_mask_covers_is_left() -> None:
    scores, colors, box, around, im_inds = scene()
    evidence = color_evidence(scores, colors, box, around, im_inds)
    assert (mean_field(scores, colors, box, im_inds)[..., 2:12] > 0.5).all(), "its edges alone do not show it"
    refined = mean_field(scores, colors, box, im_inds, evidence=3 * (evidence - 2)) > 0.5
    assert refined[0].any(dim=0).nonzero().flatten().tolist() == refined[0].all(dim=0).nonzero().flatten().tolist() == LEGS


def test_each_instance_has_its_own_colours_and_image() -> None:
    scores, colors, box, around, im_inds = scene()
    other = colors.flip(1)
    both = color_evidence(
        scores.repeat(3, 1, 1), torch.cat([other, colors]), box.repeat(3, 1, 1), around.repeat(3, 1, 1), torch.tensor([1, 0, 1])
    )
    alone = color_evidence(scores, colors, box, around, im_inds)
    assert torch.equal(both[0], alone[0])
    assert torch.equal(both[2], alone[0])


def test_empty_masks_no_surroundings_and_extreme_colours_are_finite() -> None:
    scores, colors, box, around, im_inds = scene()
    assert color_evidence(scores * 0, colors * 1e3, box, around * 0, im_inds).abs().max() == 0
    assert color_evidence(scores[:0], colors, box[:0], around[:0], im_inds[:0]).shape == (0, 4, 14)
    half = color_evidence(scores.bfloat16(), colors, box.bool(), around.bool(), im_inds)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
