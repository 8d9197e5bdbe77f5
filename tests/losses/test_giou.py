"""GIoU: loop, typed reference numbers, gradient, precision, nothing."""

import pytest
import torch

import oracles
from cis_seg.losses.giou import giou_loss, iou_and_giou
from golden_arrays import isolated_arrays


def test_equals_loop() -> None:
    pred, target = torch.rand(2, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    iou, giou = iou_and_giou(pred, target)
    expected = [oracles.iou_and_giou(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    assert list(zip(iou.tolist(), giou.tolist(), strict=True)) == [pytest.approx(pair) for pair in expected]
    weights = torch.rand(20, dtype=torch.float64)
    by_hand = sum(w * (1 - g) for w, (_, g) in zip(weights.tolist(), expected, strict=True)) / 3
    assert giou_loss(pred, target, weights, 3.0).item() == pytest.approx(by_hand)


def test_hand_computed() -> None:
    # 2 x 2 inside 4 x 4: I 4, U 16, C 16, iou 5 / 17
    loss = giou_loss(torch.ones(1, 4), 2 * torch.ones(1, 4), torch.tensor([0.5]), 0.25)
    assert loss.item() == pytest.approx(2 * (1 - 5 / 17))


def test_typed_reference_numbers() -> None:
    pred = torch.tensor([[0.0, 0, 0, 0], [0, 3.4050734, 0, 2.2037408], [2.8815217, 0.29220772, 3.8796785, 0.43114614]])
    target = torch.tensor(
        [
            [2.401709, 3.3911846, 3.795641, 1.1961212],
            [2.3238065, 0.49722815, 3.6823747, 2.732133],
            [3.2288592, 1.0287137, 1.8831947, 0.6829157],
        ]
    )
    iou, giou = iou_and_giou(pred, target)
    torch.testing.assert_close(iou, torch.tensor([0.033979923, 0.049028914, 0.39722475]))
    torch.testing.assert_close(giou, torch.tensor([0.033979923, -0.4247771, 0.235061]))


def test_golden(golden) -> None:
    pred, target, iou, giou = isolated_arrays(golden, "iou_pred", "iou_target", "iou", "giou")
    for ours, expected in zip(iou_and_giou(pred, target), (iou, giou), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_gradient() -> None:
    pred, target = (torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1).unbind(0)
    weights = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, target, weights, weights.sum()), (pred.requires_grad_(),))


def test_degenerate_boxes_stay_finite() -> None:
    pred = torch.zeros(1, 4, requires_grad=True)
    loss = giou_loss(pred, torch.zeros(1, 4), torch.ones(1), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_bf16_and_nothing() -> None:
    pred, target, weights = torch.rand(3, 4).bfloat16(), torch.rand(3, 4), torch.rand(3)
    loss = giou_loss(pred, target, weights, 1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, giou_loss(pred.float(), target, weights, 1.0))
    empty = torch.zeros(0, 4, requires_grad=True)
    nothing = giou_loss(empty, torch.zeros(0, 4), torch.zeros(0), 1e-6)
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None
