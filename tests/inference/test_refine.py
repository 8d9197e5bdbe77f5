"""Refinement of an image's masks: on half the stride, along edges of colours, and boxes that no cell represents."""

import pytest
import torch

from cis_seg.inference.postprocess import refine_masks
from cis_seg.ops.color import pooled_colors, rgb_to_lab
from cis_seg.ops.masks import aligned_bilinear, box_masks
from cis_seg.ops.mean_field import mean_field


@pytest.mark.parametrize("stride", [1, 4])
def test_equals_a_mean_field_on_half_the_stride(stride: int) -> None:
    rng, fine = torch.Generator().manual_seed(0), max(1, stride // 2)
    h, w = 24, 36
    pixels = torch.randint(90, 150, (3, h * stride, w * stride), generator=rng, dtype=torch.uint8)
    boxes = stride * torch.tensor([[0.0, 0, 10, 6], [30, 20, 36, 24], [2.5, 1, 12.2, 20], [0, 0, 36, 24], [9, 6, 11, 11]])
    logits = 2 + 4 * torch.randn(5, h, w, generator=rng)
    lab = rgb_to_lab(pooled_colors(pixels[None], fine, truncate=False))
    scores = aligned_bilinear(logits.sigmoid()[:, None], stride // fine)[:, 0]
    inside = box_masks(boxes, (scores.shape[1], scores.shape[2]), fine)
    whole = mean_field(scores, lab, inside, torch.zeros(5, dtype=torch.int64), dilations=(2, 4), iterations=20)
    narrow = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) < 16 * fine
    assert 0 < narrow.sum() < 5
    expected = torch.where(narrow[:, None, None], scores * inside, whole)  # too narrow to refine
    torch.testing.assert_close(refine_masks(logits, pixels, boxes).sigmoid(), expected, atol=1e-4, rtol=0)
    assert 0.1 < (whole > 0.5).float().mean() < 0.9
    torch.testing.assert_close(refine_masks(logits.bfloat16(), pixels, boxes), refine_masks(logits.bfloat16().float(), pixels, boxes))


def test_a_mask_follows_the_edge_of_a_colour() -> None:
    pixels = torch.full((3, 96, 96), 20, dtype=torch.uint8)
    pixels[:, 20:72, 24:80] = 200
    refined = refine_masks(torch.full((1, 24, 24), 1.0), pixels, torch.tensor([[12.0, 8, 90, 84]]))
    expected = torch.zeros(48, 48, dtype=torch.bool)
    expected[10:36, 12:40] = True
    assert torch.equal(refined[0] > 0, expected)


def test_a_box_between_the_cells_keeps_its_mask() -> None:
    pixels = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 4, 4.5, 4.5], [0, 0, 40, 64]])  # the cells of half the stride stand at 1, 3, 5 ...
    tiny, other = refine_masks(torch.full((2, 16, 16), 2.0), pixels, boxes)
    torch.testing.assert_close(tiny, torch.full((32, 32), 2.0))
    assert (other[:, :8] > 2).all()
    assert (other[:, 22:] < -9).all()
