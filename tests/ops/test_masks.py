"""Masks: aligned upsampling, box rasters and windows around masks, against loops, typed numbers and the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from cis_seg.ops.masks import MaskGrid, aligned_bilinear, box_masks, resampled, touched_pixels, windows_around
from golden_arrays import isolated_arrays, isolated_json


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
@pytest.mark.parametrize("trained", [False, True])  # two implementations
def test_aligned_bilinear_equals_loop(factor: int, grid: tuple[int, int], trained: bool) -> None:
    x = torch.randn(2, 2, *grid, generator=torch.Generator().manual_seed(factor), dtype=torch.float64).requires_grad_(trained)
    expected = torch.tensor([[oracles.aligned_bilinear(plane, factor) for plane in image] for image in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(aligned_bilinear(x, factor), expected)


def test_aligned_bilinear_keeps_every_cell_at_its_location() -> None:
    x = torch.randn(1, 1, 4, 6)
    torch.testing.assert_close(aligned_bilinear(x, 4)[..., 2::4, 2::4], x)


def test_aligned_bilinear_typed_reference_numbers() -> None:
    x = torch.tensor([[-1.2113045, 0.6303586, -1.4713039], [0.3264293, -0.48055077, 1.1031601], [1.4612366, -1.6279298, -1.4800708]])
    corner = [
        [-1.2113045, -1.2113045, -0.29047298, 0.6303586],
        [-1.2113045, -1.2113045, -0.29047298, 0.6303586],
        [-0.44243762, -0.44243762, -0.18376686, 0.074903905],
        [0.3264293, 0.3264293, -0.07706073, -0.48055077],
    ]
    torch.testing.assert_close(aligned_bilinear(x[None, None], 2)[0, 0, :4, :4], torch.tensor(corner))


@pytest.mark.parametrize("trained", [False, True])
def test_aligned_bilinear_empty_and_bf16(trained: bool) -> None:
    assert aligned_bilinear(torch.zeros(0, 2, 3, 4, requires_grad=trained), 2).shape == (0, 2, 6, 8)
    x = torch.randn(1, 2, 3, 4).bfloat16().requires_grad_(trained)
    upsampled = aligned_bilinear(x, 2)
    assert upsampled.dtype == torch.bfloat16
    torch.testing.assert_close(upsampled.float(), aligned_bilinear(x.float(), 2), rtol=1e-2, atol=1e-2)


def test_aligned_bilinear_gradient() -> None:
    x = torch.randn(1, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: aligned_bilinear(t, 2), (x,))


def test_aligned_bilinear_golden(golden) -> None:
    x, doubled, fourfold = isolated_arrays(golden, "ab_in", "ab_out2", "ab_out4")
    torch.testing.assert_close(aligned_bilinear(x, 2), doubled)
    torch.testing.assert_close(aligned_bilinear(x, 4), fourfold)


@pytest.mark.parametrize(("grid", "onto"), [((4, (23, 31)), (2, (35, 47))), ((2, (12, 16)), (4, (30, 40))), ((1, (5, 3)), (1, (11, 7)))])
def test_resampled_equals_loop(grid: tuple[int, tuple[int, int]], onto: tuple[int, tuple[int, int]]) -> None:
    (stride, size), (new_stride, new_size) = grid, onto
    old, new = (MaskGrid((-(-h // step) + 1, -(-w // step)), step, (h, w)) for step, (h, w) in (grid, onto))  # with a row of padding
    scores = torch.rand(2, *old.cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [oracles.resampled(mask, stride, size, new.cells, new_stride, new_size) for mask in scores.tolist()]
    torch.testing.assert_close(resampled(scores, old, new), torch.tensor(expected, dtype=torch.float64))


def test_resampled_by_hand() -> None:
    """Twice the size at the same stride: pixels 1, 3, 5, 7 of 8 lie at 0.25, 1.25, 2.25, 3.25 of 4, where the cells are pixels 1 and 3."""
    small, large = MaskGrid((1, 2), 2, (2, 4)), MaskGrid((1, 4), 2, (4, 8))
    assert resampled(torch.tensor([[[0.0, 0.8]]]), small, large).tolist() == [[pytest.approx([0.0, 0.1, 0.5, 0.8], abs=1e-6)]]
    assert resampled(torch.tensor([[[0.3, 0.7]]]), small, small).tolist() == [[pytest.approx([0.3, 0.7])]]
    assert resampled(torch.zeros(0, 1, 2), small, large).shape == (0, 1, 4)
    assert resampled(torch.tensor([[[0.3]]]), MaskGrid((1, 1), 2, (2, 2)), large).tolist() == [[pytest.approx([0.3] * 4)]], "a single cell"


@given(boxes=st.lists(st.tuples(*[st.floats(0, 40, width=32)] * 4), min_size=1, max_size=4), stride=st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_box_masks_equal_a_drawn_and_sliced_canvas(boxes: list[tuple[float, ...]], stride: int) -> None:
    ordered = torch.tensor([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes])
    expected = [oracles.sample(oracles.draw_box(tuple(box), 32, 40), stride) for box in ordered.tolist()]
    assert box_masks(ordered, (32 // stride, 40 // stride), stride).int().tolist() == expected


def test_box_masks_typed_numbers() -> None:
    masks = box_masks(torch.tensor([[3.0, 2.0, 9.9, 6.0], [3, 2, 3, 2]]), (2, 3), 4)
    assert masks.dtype == torch.bool
    assert masks.int().tolist() == [[[0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]]  # cell centres x 2, 6, 10 and y 2, 6
    assert box_masks(torch.zeros(0, 4), (2, 3), 4).shape == (0, 2, 3)
    boxes = torch.tensor([[8.0, 8, 40, 44], [0, 0, 0.6, 0.7], [60.2, 10.9, 96, 64], [95, 63, 96, 64], [0, 0, 96, 64]])
    assert box_masks(boxes, (64, 96), 1).sum(dim=(1, 2)).tolist() == [1221, 1, 1944, 1, 6144]  # the reference's areas


@pytest.mark.parametrize("image", [0, 1])
def test_box_masks_golden(golden, image: int) -> None:
    boxes, expected = isolated_arrays(golden, f"col{image}_boxes", f"col{image}_bitmasks_stride4")
    assert torch.equal(box_masks(boxes, (16, 24), 4), expected.bool())
    areas = box_masks(boxes, (64, 96), 1).sum(dim=(1, 2)).tolist()
    assert areas == isolated_json(golden)[f"col{image}_full_sums"]


def test_touched_pixels_share_an_area_with_the_box() -> None:
    boxes = torch.tensor([[1.0, 0, 3, 2], [1.5, 0.9, 3.01, 2], [-5, -5, 99, 99], [2, 2, 2, 3], [9, 9, 12, 12]])
    touched = touched_pixels(boxes, (3, 5))
    assert [mask.nonzero().tolist() for mask in touched[:2]] == [
        [[0, 1], [0, 2], [1, 1], [1, 2]],
        [[y, x] for y in (0, 1) for x in (1, 2, 3)],
    ]
    assert touched.sum(dim=(1, 2)).tolist() == [4, 6, 15, 0, 0]


BOXES = [(0, 3, 0, 4), (5, 7, 8, 10), (1, 6, 3, 5), (0, 7, 0, 10), (6, 7, 0, 1), (2, 2, 3, 3)]  # rows, columns; the last one is empty


def masks() -> torch.Tensor:
    found = torch.zeros(len(BOXES), 7, 10, dtype=torch.bool)
    for mask, (top, bottom, left, right) in zip(found, BOXES, strict=True):
        mask[top:bottom, left:right] = True
    return found


@pytest.mark.parametrize(("at_once", "sizes"), [(1, [(1, 1), (2, 2), (3, 4), (5, 2), (7, 10)]), (3, [(3, 4), (7, 10)]), (9, [(7, 10)])])
def test_groups_of_similar_size(at_once: int, sizes: list[tuple[int, int]]) -> None:
    groups = windows_around(masks(), at_once=at_once)
    assert [(group.rows.shape[1], group.columns.shape[1]) for group in groups] == sizes
    assert sorted(i for group in groups for i in group.chosen.tolist()) == [0, 1, 2, 3, 4], "an empty mask has no window"


@pytest.mark.parametrize("at_once", [1, 2, None])
def test_cut_and_paste(at_once: int | None) -> None:
    maps = torch.rand(3, 2, 7, 10)
    inds = torch.tensor([0, 2, 1, 1, 0, 2])
    padded = torch.nn.functional.pad(maps, (2, 2, 2, 2), value=-1.0)
    copied = torch.full((6, 7, 10), torch.nan)
    for group in windows_around(masks(), at_once=at_once):
        windows, wide = group.cut(maps, inds[group.chosen]), group.cut(padded, inds[group.chosen], reach=2)
        for i, window, around, rows, columns in zip(group.chosen, windows, wide, group.rows, group.columns, strict=True):
            assert torch.equal(window, maps[inds[i]][:, rows][:, :, columns])
            top, left = int(rows[0]), int(columns[0])
            assert torch.equal(around, padded[inds[i]][:, top : top + len(rows) + 4, left : left + len(columns) + 4])
        group.paste(windows[:, 0], copied)
    for mask, copy, source in zip(masks()[:-1], copied, maps[inds, 0], strict=False):
        assert torch.equal(copy[mask], source[mask])
    assert copied[-1].isnan().all()


def test_no_masks() -> None:
    assert windows_around(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert windows_around(torch.zeros(2, 4, 5, dtype=torch.bool)) == []
