"""OverlapLoss: loops, numbers by hand, gradients, the draw, no pair, saturation, precision, memory, two processes' normaliser."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

import oracles
from cis_seg.losses.criterion import overlap_statistics
from cis_seg.losses.overlap import REDUCTIONS, image_pairs, overlap_degree, overlap_loss, overlap_pairs, reduce_pairs

# image 0 holds three people of 3, 1 and 2 masks, image 1 none, image 2 one person, image 3 two
IM_INDS = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 3, 3, 3])
GT_INDS = torch.tensor([4, 4, 4, 0, 2, 2, 1, 1, 0, 1, 1])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(n: int = 11, seed: int = 0) -> Tensor:
    return torch.rand(n, 5, 7, generator=seeded(seed), dtype=torch.float64)


def full(*values: float) -> Tensor:
    """Constant masks of 2 x 3 pixels."""
    return torch.stack([torch.full((2, 3), value) for value in values])


# ---------------------------------------------------------------- Eq. 1
def test_degree_equals_loop() -> None:
    a, b = scores(4), scores(3, seed=1)
    expected = [[oracles.overlap_degree(x, y) for y in b.tolist()] for x in a.tolist()]
    assert torch.allclose(overlap_degree(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(overlap_degree(a.float(), b.float()), torch.tensor(expected), atol=1e-6)


def test_degree_by_hand() -> None:
    left, right = torch.zeros(2, 1, 2, 4).unbind(0)
    left[..., :2], right[..., 2:] = 1, 1
    assert overlap_degree(left, left).item() == 0.5
    assert overlap_degree(left, right).item() == 0
    assert overlap_degree(full(0.5), full(0.5)).item() == 0.25
    half = right.clone()
    half[..., 1] = 1  # 2 of the 4 + 6 pixels are common
    assert overlap_degree(left, half).item() == pytest.approx(0.2)
    assert overlap_degree(left[:0], right).shape == (0, 1)


def test_two_empty_masks_score_nothing_and_get_no_gradient() -> None:
    empty = torch.zeros(2, 3, 3, requires_grad=True)
    degree = overlap_degree(empty, empty)
    degree.sum().backward()
    assert degree.tolist() == [[0, 0], [0, 0]]
    assert empty.grad is not None
    assert not empty.grad.any()


# ---------------------------------------------------------------- Eq. 2
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_loss_equals_loop(reduction: str) -> None:
    masks = scores()
    generators = {image: seeded(10 + image) for image in range(4)}
    loss = overlap_loss(masks, IM_INDS, GT_INDS, reduction=reduction, generator=generators.__getitem__)
    pairs = overlap_pairs(masks, IM_INDS, GT_INDS, generator=lambda image: seeded(10 + image))
    starts = [0, 6, 6, 8]
    drawn = {start + k for p, start in zip(pairs, starts, strict=True) for k in p.drawn.tolist()}
    assert len(drawn) == 6, "one mask of each person"
    expected = oracles.overlap(masks.tolist(), IM_INDS.tolist(), GT_INDS.tolist(), drawn, reduction)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_reductions_by_hand() -> None:
    """Person 0 has masks of 1 and 1, person 1 one of 0.5: d = 0.5 / 1.5 wherever they meet, whichever is drawn."""
    masks, im_inds, gt_inds = full(1, 1, 0.5), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 0, 1])
    loss = {r: overlap_loss(masks, im_inds, gt_inds, reduction=r, generator=seeded(0)).item() for r in REDUCTIONS}
    # pairs: two masks of person 0 with the one of person 1, and that with the drawn one of person 0
    assert loss == pytest.approx({"pairs": 1 / 3, "masks": 3 * (1 / 3) / 3, "sum": 1.0})


def test_the_mean_is_over_images_with_a_pair() -> None:
    masks = full(1, 1, 1, 1, 0.5)
    im_inds, gt_inds = torch.tensor([0, 0, 1, 3, 3]), torch.tensor([0, 1, 0, 0, 1])  # image 1 has one person, image 2 nobody
    loss = {r: overlap_loss(masks, im_inds, gt_inds, reduction=r).item() for r in REDUCTIONS}
    assert loss == pytest.approx({"pairs": (1 / 2 + 1 / 3) / 2, "masks": (1 / 2 + 1 / 3) / 2, "sum": 1 + 2 / 3})


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradient(reduction: str, detach: bool) -> None:
    """Against finite differences; with drawn masks detached only their own role is: they are constants in it."""
    masks = scores(6).requires_grad_()
    fixed = masks.detach().clone()

    def loss(x: Tensor) -> Tensor:
        if not detach:
            return overlap_loss(x, IM_INDS[:6], GT_INDS[:6], reduction=reduction, generator=seeded(3))
        pairs = overlap_pairs(x, IM_INDS[:6], GT_INDS[:6], generator=seeded(3))[0]
        degrees = overlap_degree(x, fixed[pairs.drawn])
        return (degrees * pairs.valid).sum() / {"pairs": pairs.valid.sum(), "masks": 6, "sum": 1}[reduction]

    assert torch.autograd.gradcheck(loss, masks)
    if detach:
        own = overlap_loss(masks, IM_INDS[:6], GT_INDS[:6], reduction=reduction, detach_selected=True, generator=seeded(3))
        assert torch.allclose(torch.autograd.grad(own, masks)[0], torch.autograd.grad(loss(masks), masks)[0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("im_inds", "gt_inds"), [([0, 0, 0], [5, 5, 5]), ([0, 1, 2], [0, 1, 2]), ([], [])])
def test_exactly_zero_without_a_pair(reduction: str, im_inds: list[int], gt_inds: list[int]) -> None:
    masks = torch.rand(len(im_inds), 4, 4, requires_grad=True)
    loss = overlap_loss(masks, torch.tensor(im_inds, dtype=torch.int64), torch.tensor(gt_inds, dtype=torch.int64), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert masks.grad is not None
    assert torch.equal(masks.grad, torch.zeros_like(masks))


def test_finite_at_saturated_masks() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0, -200.0]).view(5, 1, 1).repeat(1, 3, 3).requires_grad_()
    loss = overlap_loss(logits.sigmoid(), torch.zeros(5, dtype=torch.int64), torch.arange(5), generator=seeded(0))
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.5 / 20)  # one pair of 10, seen from both sides, has equal masks
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


# ---------------------------------------------------------------- the draw
def test_selection_is_seeded_uniform_and_one_per_instance() -> None:
    masks, gt_inds = scores(6), GT_INDS[:6]
    draws = [image_pairs(masks, gt_inds, 3, generator=seeded(seed)).drawn.tolist() for seed in range(600)]
    assert draws == [image_pairs(masks, gt_inds, 3, generator=seeded(seed)).drawn.tolist() for seed in range(600)]
    assert all(sorted(gt_inds[draw].tolist()) == [0, 2, 4] for draw in draws)
    for mask, chance in enumerate([1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2]):
        share = sum(mask in draw for draw in draws) / len(draws)
        assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / len(draws)) ** 0.5 + 1e-9)  # 4 standard deviations


def test_overlay_does_not_depend_on_the_neighbouring_panel() -> None:
    masks = scores()
    together = overlap_pairs(masks, IM_INDS, GT_INDS, generator=lambda image: seeded([7, 8, 9, 10][image]))
    alone = overlap_pairs(masks[8:], IM_INDS[8:] - 3, GT_INDS[8:], generator=lambda image: seeded([10][image]))
    assert torch.equal(together[3].drawn, alone[0].drawn)
    assert torch.equal(together[3].degrees, alone[0].degrees)


def test_masks_in_any_order() -> None:
    """Images need not be grouped; with one mask a person the draw has no choice."""
    masks, im_inds, gt_inds = scores(5), torch.tensor([1, 0, 1, 0, 1]), torch.tensor([0, 0, 1, 1, 2])
    order = torch.tensor([1, 3, 0, 2, 4])
    expected = overlap_loss(masks[order], im_inds[order], gt_inds[order], sizes=[(2, 2), (3, 3)])
    assert overlap_loss(masks, im_inds, gt_inds).item() == pytest.approx(expected.item())


def test_two_processes_share_a_denominator() -> None:
    """The parts of two processes, added up, are what one process computes with the batch of both."""
    masks = scores()
    for reduction in REDUCTIONS:
        whole = reduce_pairs(overlap_pairs(masks, IM_INDS, GT_INDS, generator=lambda i: seeded(i)), reduction)
        first = reduce_pairs(overlap_pairs(masks[:6], IM_INDS[:6], GT_INDS[:6], generator=lambda i: seeded(i)), reduction)
        second = reduce_pairs(overlap_pairs(masks[6:], IM_INDS[6:] - 2, GT_INDS[6:], generator=lambda i: seeded(i + 2)), reduction)
        assert (first[0] + second[0]).item() == pytest.approx(whole[0].item())
        if reduction != "sum":
            assert (first[1] + second[1]).item() == whole[1].item() == 2


# ---------------------------------------------------------------- precision, memory, errors
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_under_autocast_and_for_short_types(dtype: torch.dtype) -> None:
    masks = scores(6).to(dtype)
    exact = overlap_loss(masks.double(), IM_INDS[:6], GT_INDS[:6], generator=seeded(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = overlap_loss(masks, IM_INDS[:6], GT_INDS[:6], generator=seeded(0))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), abs=1e-6)


ALONE = """
import resource, sys
for name in ("lightning", "hydra", "omegaconf", "wandb", "pycocotools", "albumentations", "torchvision"):
    sys.modules[name] = None
import torch
from cis_seg.losses.overlap import overlap_loss
torch.set_num_threads(1)
logits = torch.randn(400, 120, 336, requires_grad=True)
def run(n):
    masks = logits[:n].sigmoid()
    overlap_loss(masks, torch.zeros(n, dtype=torch.int64), torch.arange(n), generator=torch.Generator().manual_seed(0)).backward()
run(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(400)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_four_hundred_people_cost_megabytes_and_torch_is_all_it_needs() -> None:
    """Masks of 120 x 336 are 65 MB for 400 people; a tensor of all pairs of pixels would take 26 GB. No other library can be imported."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 600


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"expected mask_scores \(N, h, w\), im_inds \(N,\) and gt_inds \(N,\), got \(2, 3, 3\), \(1,\)"):
        overlap_loss(torch.ones(2, 3, 3), torch.tensor([0]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one of pairs, masks, sum, got 'mean'"):
        overlap_loss(torch.ones(2, 3, 3), torch.tensor([0, 0]), torch.tensor([0, 1]), reduction="mean")
    with pytest.raises(ValueError, match=r"of one size, got \(1, 2, 3\) and \(1, 3, 2\)"):
        overlap_degree(torch.ones(1, 2, 3), torch.ones(1, 3, 2))


# ---------------------------------------------------------------- what is logged beside it
def test_statistics_by_hand() -> None:
    """Three people: two whose boxes touch share one of three claimed pixels, the third stands apart."""
    masks = torch.zeros(3, 2, 4)
    masks[0, 0, :2], masks[1, 0, 1:3], masks[2, 1, 3] = 1, 1, 1
    boxes = torch.tensor([[0.0, 0, 8, 4], [4.0, 0, 12, 4], [12.5, 4, 16, 8]])
    zeros = torch.zeros(3, dtype=torch.int64)
    pairs = overlap_pairs(masks, zeros, torch.arange(3), generator=seeded(0))
    found = overlap_statistics(pairs, masks, boxes, [3])
    assert {k: v.item() for k, v in found.items()} == pytest.approx({"overlap_degree": 1 / 4, "overlap_pairs": 6, "overlap_shared": 1 / 4})
    nobody = overlap_statistics(overlap_pairs(masks[:0], zeros[:0], zeros[:0]), masks[:0], boxes[:0], [])
    assert {k: v.item() for k, v in nobody.items()} == {"overlap_degree": 0, "overlap_pairs": 0, "overlap_shared": 0}
