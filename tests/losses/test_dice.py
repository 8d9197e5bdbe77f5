"""Dice: loop, hand, gradient, precision, nothing."""

import pytest
import torch

import oracles
from cis_seg.losses.dice import dice_loss


def test_equals_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64)
    truth = torch.rand(4, 5, 6, generator=generator) > 0.5
    pairs = zip(scores.flatten(1).tolist(), truth.double().flatten(1).tolist(), strict=True)
    assert dice_loss(scores, truth).item() == pytest.approx(sum(oracles.dice(p, t) for p, t in pairs) / 4)


def test_hand_computed() -> None:
    truth = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    scores = torch.full((3, 2, 2), 0.5)
    # 1 - 2 * 0.5 / (1 + 1), 1 - 2 * 2 / (1 + 4), 1 - 0 / (1 + 0)
    assert dice_loss(scores, truth).item() == pytest.approx((0.5 + 0.2 + 1) / 3, abs=1e-5)
    assert dice_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).item() == 1


def test_gradient_precision_and_empty_input() -> None:
    truth = torch.rand(2, 3, 3) > 0.5
    scores = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, truth), (scores,))
    half = scores.detach().bfloat16()
    loss = dice_loss(half, truth)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, dice_loss(half.float(), truth))
    empty = torch.zeros(0, 3, 3, requires_grad=True)
    nothing = dice_loss(empty, torch.zeros(0, 3, 3))
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None


def test_weights() -> None:
    scores, truth = torch.full((3, 2, 2), 0.5, requires_grad=True), torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    loss = dice_loss(scores, truth, torch.tensor([0.4, 1.0, 0.0]))
    assert loss.item() == pytest.approx((0.4 * 0.5 + 0.2) / 2, abs=1e-5)  # distances as above; the third mask does not count
    loss.backward()
    assert scores.grad is not None
    assert not scores.grad[2].any()
    assert dice_loss(scores, truth, torch.ones(3)).item() == dice_loss(scores, truth).item()
    assert dice_loss(scores, truth, torch.zeros(3)).item() == 0
    exact = torch.rand(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, truth, torch.tensor([0.4, 1.0, 0.0])), (exact,))
    with pytest.raises(ValueError, match=r"weights \(N,\), got \(3, 2, 2\), \(3, 2, 2\), \(2,\)"):
        dice_loss(scores, truth, torch.ones(2))
