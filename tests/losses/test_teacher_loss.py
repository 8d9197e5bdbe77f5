"""The teacher's loss: loop, hand, gradient, precision, nothing, shapes."""

import pytest
import torch

import oracles
from cis_seg.losses.teacher import teacher_loss


def test_equals_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets = (torch.rand(4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    trusted = torch.rand(4, 5, 6, generator=generator) > 0.3
    quality = torch.tensor([0.7, 0.0, 1.0, 0.2], dtype=torch.float64)
    lists = [x.flatten(1).tolist() for x in (scores, targets, trusted)]
    expected = oracles.teacher(*lists, quality.tolist())
    assert teacher_loss(scores, targets, trusted, quality).item() == pytest.approx(expected, rel=1e-12)


def test_hand_computed() -> None:
    scores, targets = torch.full((3, 2, 2), 0.5), torch.tensor([[[1.0, 1], [0, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]])
    trusted = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]]).bool()
    # 1 - 2 * 0.5 / (0.25 + 1) = 0.2 at the one trusted pixel, 1 - 2 * 2 / (1 + 4) = 0.2, and a mask that does not count
    assert teacher_loss(scores, targets, trusted, torch.tensor([0.5, 1.0, 0.0])).item() == pytest.approx((0.5 * 0.2 + 0.2) / 2, abs=1e-5)
    assert teacher_loss(targets, targets, trusted, torch.ones(3)).item() == pytest.approx(0, abs=1e-4)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(3, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    targets, trusted = torch.rand(3, 3, 4, generator=generator), torch.rand(3, 3, 4, generator=generator) > 0.3
    quality = torch.tensor([0.5, 0.0, 1.0])
    assert torch.autograd.gradcheck(lambda x: teacher_loss(x, targets, trusted, quality), (scores,))
    teacher_loss(scores, targets, trusted, quality).backward()
    assert scores.grad is not None
    assert not scores.grad[~trusted].any()
    assert not scores.grad[1].any()


def test_precision_and_nothing() -> None:
    half = torch.rand(2, 3, 3).bfloat16()
    everything, quality = torch.ones(2, 3, 3).bool(), torch.ones(2)
    loss = teacher_loss(half, half.float() > 0.5, everything, quality)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, teacher_loss(half.float(), half.float() > 0.5, everything, quality))
    empty = torch.zeros(0, 3, 3, requires_grad=True)
    nothing = teacher_loss(empty, empty.detach(), empty.detach().bool(), torch.zeros(0))
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None
    assert teacher_loss(torch.rand(2, 3, 3), torch.ones(2, 3, 3), everything, torch.zeros(2)).item() == 0


def test_shapes() -> None:
    masks = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), \(2, 4, 3\)"):
        teacher_loss(masks, torch.zeros(2, 4, 3), masks.bool(), torch.ones(2))
    with pytest.raises(ValueError, match=r"quality \(N,\)"):
        teacher_loss(masks, masks, masks.bool(), torch.ones(1))
