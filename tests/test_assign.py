"""FCOS assignment (the reference's cases, random crowds against a loop, images without people); mask samples: budget, order and ties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.assign import assign, select_mask_samples
from cis_seg.ops.boxes import ltrb_to_boxes
from cis_seg.ops.grids import pyramid_locations
from cis_seg.structures import Assignment, Locations, MaskSamples, Target
from golden_arrays import isolated_json

SIZE = (128, 160)
STRIDES = (8, 16, 32, 64, 128)


def _pyramid(size: tuple[int, int] = SIZE) -> Locations:
    return pyramid_locations([(-(-size[0] // s), -(-size[1] // s)) for s in STRIDES], STRIDES, "cpu")


def _target(boxes: list[list[float]], labels: list[int]) -> Target:
    return Target(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))


def _positives(boxes: list[list[float]], labels: list[int]) -> list[list[int]]:
    """[level, x, y, gt, label] of every positive, as the golden file lists them."""
    locations = _pyramid()
    result = assign(locations, (_target(boxes, labels),), num_classes=80, padded_size=SIZE)
    positive = result.gt_inds[0] >= 0
    assert torch.equal(positive, result.labels[0] < 80)
    columns = (locations.level_inds, *locations.xy.long().t(), result.gt_inds[0], result.labels[0])
    return torch.stack(columns, dim=1)[positive].tolist()


def _square(level: int, xs: tuple[int, ...], ys: tuple[int, ...], gt: int) -> list[list[int]]:
    return [[level, x, y, gt, gt + 1] for y in ys for x in xs]


def test_first_of_equally_small_boxes_is_assigned() -> None:
    positives = _positives([[10, 10, 50, 50], [14, 10, 54, 50]], [1, 2])
    expected = [row for y in (20, 28, 36) for row in (*_square(0, (20, 28, 36), (y,), 0), [0, 44, y, 1, 2])]
    assert positives == expected


def test_both_ends_of_a_range_belong_to_both_levels() -> None:
    # farthest side exactly 64 at (68, 28): 132 - 68; learned on P3 and, elsewhere, on P4
    expected = _square(0, (68,), (28, 36), 0) + _square(1, (56, 72, 88), (24, 40), 0)
    assert _positives([[4, 4, 132, 60]], [1]) == expected


def test_centre_is_the_rasters_centroid() -> None:
    assert _positives([[10.9, 10.9, 43.1, 43.1]], [1]) == _square(0, (20, 28, 36), (20, 28, 36), 0)


def test_box_that_covers_no_pixel_has_no_location() -> None:
    expected = _square(0, (60, 68, 76), (60, 68, 76), 0)
    assert _positives([[40, 40, 90, 90], [200, 20, 230, 60]], [1, 2]) == expected
    assert _positives([[4, 4, 5, 5], [20, 20, 21, 21]], [1, 2]) == []


def test_first_box_at_the_left_border_keeps_the_other_positives() -> None:
    """The reference drops every positive here (a bug): ours equals the swapped order, with the indices swapped."""
    edge, person = [0, 20, 0.5, 90], [30, 20, 150, 120]
    swapped = _positives([person, edge], [2, 1])
    assert len(swapped) == 11
    assert _positives([edge, person], [1, 2]) == [[level, x, y, 1, label] for level, x, y, _, label in swapped]


@pytest.mark.parametrize(
    "name",
    ["basic", "same_area_tie", "size_boundary_64", "fraction_center_shift", "same_with_order_swapped", "box_1px", "empty_mask_box_outside"],
)
def test_golden(golden, name: str) -> None:
    case = isolated_json(golden)["assign"][name]
    assert (case["h"], case["w"], case["uses_box_bitmask_center"]) == (*SIZE, True)
    assert _positives(case["boxes"], case["classes"]) == case["positives_level_x_y_gt_label"]


@pytest.mark.parametrize("seed", range(4))
def test_random_crowds_equal_the_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size, ranges = (96, 128), (16.0, 32.0, 64.0, 96.0)
    locations = _pyramid(size)
    low = torch.rand(12, 2, generator=generator) * torch.tensor([110.0, 80.0])
    boxes = torch.cat((low, low + 2 + torch.rand(12, 2, generator=generator) * 90), dim=1).mul(4).round().div(4)
    boxes[3] = boxes[2]  # a tie
    boxes[:, 0::2].clamp_(max=128)
    boxes[:, 1::2].clamp_(max=96)
    target = Target(boxes, torch.randint(0, 5, (12,), generator=generator))
    result = assign(locations, (target,), num_classes=5, padded_size=size, size_ranges=ranges, radius=1.0)
    points = [tuple(xy) for xy in locations.xy.tolist()]
    people = [tuple(box) for box in boxes.tolist()]
    expected = oracles.assign(points, locations.strides.tolist(), locations.level_inds.tolist(), people, size, ranges, 1.0)
    assert result.gt_inds[0].tolist() == expected
    assert sum(g >= 0 for g in expected) >= 8
    for k, g in enumerate(expected):
        if g < 0:
            assert result.labels[0, k] == 5
            assert not result.ltrb[0, k].any()
            assert result.centerness[0, k] == 0
        else:
            assert result.labels[0, k] == target.labels[g]
            decoded = ltrb_to_boxes(locations.xy[k], result.ltrb[0, k] * locations.strides[k])
            torch.testing.assert_close(decoded, boxes[g])
            ltrb = tuple(result.ltrb[0, k].tolist())
            assert result.centerness[0, k].item() == pytest.approx(oracles.centerness(*ltrb), rel=1e-5)


def test_images_without_people_are_background() -> None:
    locations = _pyramid()
    targets = (_target([], []), _target([[10, 10, 50, 50]], [0]), _target([], []))
    result = assign(locations, targets, num_classes=1, padded_size=SIZE)
    count = len(locations.xy)
    assert result.labels.shape == result.gt_inds.shape == result.centerness.shape == (3, count)
    assert result.ltrb.shape == (3, count, 4)
    assert (result.gt_inds >= 0).sum(dim=1).tolist() == [0, 9, 0]
    assert (result.labels[0] == 1).all()
    assert result.labels.dtype == result.gt_inds.dtype == torch.int64
    assert result.ltrb.isfinite().all()


def test_background_in_an_ignore_region_is_marked_unless_it_is_in_a_persons_box() -> None:
    locations = _pyramid()
    boxes, regions = torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([[40.0, 40, 90, 90], [100, 0, 160, 20]])
    with_regions = Target(boxes, torch.zeros(1, dtype=torch.int64), ignore_boxes=regions)
    without = _target([[10, 10, 50, 50]], [0])
    plain = assign(locations, (without, without), num_classes=1, padded_size=SIZE)
    marked = assign(locations, (without, with_regions), num_classes=1, padded_size=SIZE)
    assert plain.ignored is None
    assert all(torch.equal(getattr(plain, name), getattr(marked, name)) for name in ("labels", "gt_inds", "ltrb", "centerness"))
    assert marked.ignored is not None
    assert not marked.ignored[0].any()

    def inside(point: list[float], box: list[float]) -> bool:
        return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]

    expected = [any(inside(p, r) for r in regions.tolist()) and not inside(p, [10, 10, 50, 50]) for p in locations.xy.tolist()]
    assert marked.ignored[1].tolist() == expected
    assert 0 < sum(expected) < len(expected)
    assert not (marked.ignored & (marked.gt_inds >= 0)).any()


def _assignment(gt_inds: Tensor) -> Assignment:
    shape = gt_inds.shape
    return Assignment((gt_inds < 0).long(), gt_inds, torch.zeros(*shape, 4), torch.zeros(shape))


def _rows(samples: MaskSamples) -> list[tuple[int, int, int]]:
    return list(zip(samples.im_inds.tolist(), samples.loc_inds.tolist(), samples.gt_inds.tolist(), strict=True))


def test_budget_is_shared_by_instances_with_positives() -> None:
    gt_inds = torch.tensor([[0, 0, 0, 5, 5, 5, 5, -1], [-1] * 8, [2, 1, 2, 1, 0, 0, 3, 3]])
    quality = torch.tensor([[0.1, 0.3, 0.2, 0.5, 0.9, 0.5, 0.7, 1.0], [1.0] * 8, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7]])
    samples = select_mask_samples(_assignment(gt_inds), quality, per_image=5)
    # two people: 5 // 2 = 2 each; four: 5 // 4 = 1 each, equal quality to the first location
    assert _rows(samples) == [(0, 1, 0), (0, 2, 0), (0, 4, 5), (0, 6, 5), (2, 5, 0), (2, 3, 1), (2, 2, 2), (2, 6, 3)]
    assert samples.counts == (4, 0, 4)


def test_each_instance_gets_a_sample_beyond_the_budget() -> None:
    samples = select_mask_samples(_assignment(torch.arange(7).repeat(2)[None]), torch.rand(1, 14), per_image=3)
    assert samples.gt_inds.tolist() == list(range(7))


@pytest.mark.parametrize("seed", range(5))
def test_equals_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gt_inds = torch.randint(-3, 6, (3, 60), generator=generator).clamp(min=-1)
    quality = torch.randint(0, 8, (3, 60), generator=generator) / 8  # many ties
    samples = select_mask_samples(_assignment(gt_inds), quality, per_image=10 + 7 * seed)
    expected = oracles.mask_samples(gt_inds.tolist(), quality.tolist(), 10 + 7 * seed)
    assert _rows(samples) == expected
    assert samples.counts == tuple(sum(b == image for b, _, _ in expected) for image in range(3))


@pytest.mark.parametrize("at_most", [1, 3, 4, 6, 7, 100])
def test_cap_keeps_one_sample_of_each_instance_first(at_most: int) -> None:
    """Three people of two samples each in the first image, one in the second; the cap is an image's."""
    gt_inds = torch.tensor([[0, 0, 1, 1, 2, 2, -1], [0, 0, -1, -1, -1, -1, -1]])
    quality = torch.tensor([[0.3, 0.4, 0.9, 0.8, 0.1, 0.2, 1.0], [0.5, 0.6, 1, 1, 1, 1, 1]])
    samples = select_mask_samples(_assignment(gt_inds), quality, per_image=6, at_most=at_most)
    first_to_last = [(0, 2, 1), (0, 1, 0), (0, 5, 2), (0, 3, 1), (0, 0, 0), (0, 4, 2)][:at_most]
    second = [(1, 1, 0), (1, 0, 0)][:at_most]
    assert sorted(_rows(samples)) == sorted(first_to_last + second)
    assert samples.counts == (len(first_to_last), len(second))
    assert samples.instances == (min(at_most, 3), 1)
    assert samples.dropped == 8 - len(first_to_last) - len(second)
    order = [(image, person) for image, _, person in _rows(samples)]
    assert order == sorted(order)


def test_no_positives_and_bf16_quality() -> None:
    nothing = select_mask_samples(_assignment(torch.full((2, 5), -1)), torch.rand(2, 5))
    assert _rows(nothing) == []
    assert nothing.counts == (0, 0)
    assert nothing.im_inds.dtype == nothing.loc_inds.dtype == nothing.gt_inds.dtype == torch.int64
    quality = torch.tensor([[0.25, 0.5, 0.125]], dtype=torch.bfloat16, requires_grad=True)
    assert _rows(select_mask_samples(_assignment(torch.zeros(1, 3, dtype=torch.int64)), quality, per_image=2)) == [(0, 1, 0), (0, 0, 0)]
