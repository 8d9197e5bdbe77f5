"""Mask samples: the budget's arithmetic, order and ties, against a loop."""

import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.assign import select_mask_samples
from cis_seg.structures import Assignment, MaskSamples


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
