"""Pairwise loss: loop, typed and golden reference numbers, extreme logits, borders, gradient, precision, nothing."""

from __future__ import annotations

import math

import pytest
import torch

import oracles
from cis_seg.losses import pairwise
from cis_seg.losses.pairwise import pairwise_loss, ramp
from golden_arrays import isolated_arrays


@pytest.mark.parametrize(("size", "dilation", "thresh"), [(3, 1, 0.3), (3, 2, 0.7), (5, 1, 0.5), (3, 2, 0.0), (3, 2, 2.0)])
def test_equals_loop(size: int, dilation: int, thresh: float) -> None:
    generator = torch.Generator().manual_seed(size * dilation)
    logits = 4 * torch.randn(3, 6, 7, generator=generator, dtype=torch.float64)
    boxes = torch.rand(3, 6, 7, generator=generator) > 0.4
    similarity = torch.rand(2, size * size - 1, 6, 7, generator=generator)  # also where the neighbour is outside: weight, but no cost
    im_inds = torch.tensor([1, 0, 1])
    expected = oracles.pairwise(logits.tolist(), boxes.tolist(), similarity.tolist(), im_inds.tolist(), size, dilation, thresh)
    loss = pairwise_loss(logits, boxes, similarity, im_inds, size=size, dilation=dilation, color_thresh=thresh)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (expected == 0) == (thresh > 1)


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (5, 1), (3, 9)])
def test_shifted_maps_equal_listed_edges(size: int, dilation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for devices whose lists would have to be waited for; a dilation beyond the map has no edge."""
    generator = torch.Generator().manual_seed(size * dilation)
    logits = (4 * torch.randn(3, 8, 7, generator=generator, dtype=torch.float64)).requires_grad_()
    boxes = torch.rand(3, 8, 7, generator=generator) > 0.4
    similarity, im_inds = torch.rand(2, size * size - 1, 8, 7, generator=generator), torch.tensor([1, 0, 1])
    found = []
    for edges in (pairwise._listed_edges, pairwise._shifted_edges):
        monkeypatch.setattr(pairwise, "_listed_edges", edges)
        loss = pairwise_loss(logits, boxes, similarity, im_inds, size=size, dilation=dilation)
        found.append((loss.detach(), *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(found[0], found[1])
    assert (found[0][0] > 0) == (dilation < 8)


def _one_edge(a: float, b: float) -> tuple[float, float, float]:
    """The loss of a map of two pixels with one edge, and its gradient."""
    logits = torch.tensor([[[a, b]]], requires_grad=True)
    similarity = torch.zeros(1, 8, 1, 2)
    similarity[0, 4, 0, 0] = 1
    loss = pairwise_loss(logits, torch.ones(1, 1, 2), similarity, torch.tensor([0]), dilation=1)
    loss.backward()
    assert logits.grad is not None
    return loss.item(), *logits.grad.flatten().tolist()


def test_hand_computed() -> None:
    assert _one_edge(0.0, 0.0) == pytest.approx((math.log(2), 0.0, 0.0))
    # P(same) of 3/4 and 1/2 is 1/2; the gradient is s(a) - s(a + b) and s(b) - s(a + b)
    assert _one_edge(math.log(3), 0.0) == pytest.approx((math.log(2), 0.0, -0.25), abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (100.0, 100.0, (0.0, 0.0, 0.0)),
        (-100.0, -100.0, (0.0, 0.0, 0.0)),
        (100.0, -100.0, (100 - math.log(2), 0.5, -0.5)),
        (-100.0, 0.0, (math.log(2), 0.0, 0.5)),
        (40.0, -10.0, (10.0, 0.0, -1.0)),
        (1000.0, -999.0, (999.0, 0.2689, -0.7311)),
    ],
)
def test_extreme_logits(a: float, b: float, expected: tuple[float, float, float]) -> None:
    assert _one_edge(a, b) == pytest.approx(expected, abs=4e-1 if abs(a) == 1000 else 1e-4)
    if abs(a) < 1000:
        assert _one_edge(a, b)[0] == pytest.approx(oracles.minus_log_same(a, b), abs=1e-4)


def test_typed_reference_numbers() -> None:
    """The corner of the reference's golden logits: each neighbour of the pixel at (2, 2), two pixels away."""
    logits = torch.tensor(
        [
            [-2.0816023, 1.8332083, -2.6083808, -2.2193568, -2.4375563],
            [0.059832364, -0.09967607, 2.1301558, 1.7720734, 0.92803675],
            [2.3132625, 0.8592033, -2.374718, -1.4935519, -1.8639624],
            [-3.9582942, 1.5574267, -1.5497, -0.27950084, 2.2827737],
            [1.7054006, 0.19295274, -0.12498197, 1.6537082, 1.1197346],
        ]
    )
    expected = [0.19496843, 0.15320162, 0.16463271, 1.8336786, 0.21878965, 1.5478461, 0.6426585, 1.24032]
    box = torch.zeros(1, 5, 5, dtype=torch.bool)
    box[0, 2, 2] = True
    for e, value in enumerate(expected):
        similarity = torch.zeros(1, 8, 5, 5)
        similarity[:, e] = 0.3  # the threshold itself counts
        assert pairwise_loss(logits[None], box, similarity, torch.tensor([0])).item() == pytest.approx(value, rel=1e-5)
    assert pairwise_loss(logits[None], box, torch.ones(1, 8, 5, 5), torch.tensor([0])).item() == pytest.approx(sum(expected) / 8, rel=1e-5)


def test_golden_edges_and_gradient(golden) -> None:
    logits, edges, grad = isolated_arrays(golden, "pair_logits", "pair_out", "pair_grad_of_sum")
    masks = logits[:, 0].clone().requires_grad_()
    ones, first = torch.ones_like(masks, dtype=torch.bool), torch.zeros(5, dtype=torch.int64)
    for e in range(8):
        similarity = torch.zeros(1, 8, 16, 20)
        similarity[:, e] = 1
        loss = pairwise_loss(masks, ones, similarity, first)
        assert loss.item() == pytest.approx(edges[:, e].mean().item(), rel=1e-5)
    for n in range(5):
        loss = pairwise_loss(masks[n : n + 1], ones[:1], torch.ones(1, 8, 16, 20), first[:1])
        assert loss.item() == pytest.approx(edges[n].mean().item(), rel=1e-5, abs=1e-6)
    pairwise_loss(masks, ones, torch.ones(1, 8, 16, 20), first).mul(edges.numel()).backward()
    torch.testing.assert_close(masks.grad, grad[:, 0], rtol=1e-4, atol=1e-4)


def test_golden_with_colour_weights(golden) -> None:
    names = ("thr_logits", "col0_bitmasks_stride4", "col0_similarity", "thr_loss", "thr_grad", "thr_weight_sums")
    logits, boxes, similarity, expected, grad, weight_sums = isolated_arrays(golden, *names)
    logits.requires_grad_()
    loss = pairwise_loss(logits[:, 0], boxes, similarity[None], torch.zeros(5, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.item() == pytest.approx(0.8086212, rel=1e-5)
    torch.testing.assert_close(logits.grad, grad, rtol=1e-4, atol=1e-8)
    ours = ((similarity >= 0.3) & boxes[:, None].bool()).sum(dim=(1, 2, 3))
    assert ours.tolist() == weight_sums.tolist()


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    boxes = torch.rand(2, 4, 5, generator=generator) > 0.3
    similarity = torch.rand(1, 8, 4, 5, generator=generator)
    inds = torch.tensor([0, 0])
    assert torch.autograd.gradcheck(lambda x: pairwise_loss(x, boxes, similarity, inds), (logits.requires_grad_(),))


def test_precision() -> None:
    logits, boxes, similarity = torch.randn(2, 6, 6).bfloat16(), torch.ones(2, 6, 6), torch.rand(1, 8, 6, 6)
    inds = torch.tensor([0, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pairwise_loss(logits, boxes, similarity, inds)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, pairwise_loss(logits.float(), boxes, similarity, inds))


@pytest.mark.parametrize("num", [0, 2])
def test_loss_without_edges_is_exactly_zero(num: int) -> None:
    logits = torch.randn(num, 4, 5, requires_grad=True)
    inds = torch.zeros(num, dtype=torch.int64)
    loss = pairwise_loss(logits, torch.ones(num, 4, 5), torch.zeros(1, 8, 4, 5), inds)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"color_similarity \(B, 8, h, w\), got \(2, 4, 5\), \(2, 4, 5\) and \(1, 24, 4, 5\)"):
        pairwise_loss(torch.zeros(2, 4, 5), torch.zeros(2, 4, 5), torch.zeros(1, 24, 4, 5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(N, h, w\)"):
        pairwise_loss(torch.zeros(2, 1, 4, 5), torch.zeros(2, 4, 5), torch.zeros(1, 8, 4, 5), torch.zeros(2, dtype=torch.int64))


def test_ramp_counts_from_one() -> None:
    assert ramp(1, 10_000) == pytest.approx(1e-4)
    assert ramp(5_000, 10_000) == 0.5
    assert ramp(10_000, 10_000) == ramp(10_001, 10_000) == 1.0
    assert ramp(1, 0) == 1.0
