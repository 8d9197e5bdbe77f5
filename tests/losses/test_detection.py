"""The losses of the FCOS head: loops, typed reference numbers, gradients, precision, nothing. Centerness targets: test_boxes."""

from __future__ import annotations

import pytest
import torch

import oracles
from cis_seg.losses.detection import centerness_loss, focal_loss, giou_loss, iou_and_giou
from golden_arrays import isolated_arrays, isolated_json


def test_giou_equals_loop() -> None:
    pred, target = torch.rand(2, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    iou, giou = iou_and_giou(pred, target)
    expected = [oracles.iou_and_giou(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    assert list(zip(iou.tolist(), giou.tolist(), strict=True)) == [pytest.approx(pair) for pair in expected]
    weights = torch.rand(20, dtype=torch.float64)
    by_hand = sum(w * (1 - g) for w, (_, g) in zip(weights.tolist(), expected, strict=True)) / 3
    assert giou_loss(pred, target, weights, 3.0).item() == pytest.approx(by_hand)


def test_giou_hand_computed() -> None:
    # 2 x 2 inside 4 x 4: I 4, U 16, C 16, iou 5 / 17
    loss = giou_loss(torch.ones(1, 4), 2 * torch.ones(1, 4), torch.tensor([0.5]), 0.25)
    assert loss.item() == pytest.approx(2 * (1 - 5 / 17))


def test_giou_typed_reference_numbers() -> None:
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


def test_giou_golden(golden) -> None:
    pred, target, iou, giou = isolated_arrays(golden, "iou_pred", "iou_target", "iou", "giou")
    for ours, expected in zip(iou_and_giou(pred, target), (iou, giou), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_giou_gradient() -> None:
    pred, target = (torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1).unbind(0)
    weights = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, target, weights, weights.sum()), (pred.requires_grad_(),))


def test_giou_degenerate_boxes_stay_finite() -> None:
    pred = torch.zeros(1, 4, requires_grad=True)
    loss = giou_loss(pred, torch.zeros(1, 4), torch.ones(1), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_giou_bf16_and_empty_input() -> None:
    pred, target, weights = torch.rand(3, 4).bfloat16(), torch.rand(3, 4), torch.rand(3)
    loss = giou_loss(pred, target, weights, 1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, giou_loss(pred.float(), target, weights, 1.0))
    empty = torch.zeros(0, 4, requires_grad=True)
    nothing = giou_loss(empty, torch.zeros(0, 4), torch.zeros(0), 1e-6)
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None


@pytest.mark.parametrize("num_classes", [1, 4])
def test_focal_equals_loop(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    logits = 3 * torch.randn(2, 7, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, num_classes + 1, (2, 7), generator=generator)
    assert focal_loss(logits, labels, 3.0).item() == pytest.approx(oracles.focal(logits.tolist(), labels.tolist(), 3.0))


def test_focal_hand_computed() -> None:
    # p = 1/2: positive 0.25 * 0.25 * log 2, negative 0.75 * 0.25 * log 2
    loss = focal_loss(torch.zeros(1, 2, 2), torch.tensor([[0, 2]]), 2.0)
    assert loss.item() == pytest.approx((0.0625 + 3 * 0.1875) * 0.6931472 / 2)


def test_focal_typed_reference_numbers() -> None:
    logits = torch.tensor([[[-4.269579, -2.8689814, 4.358877, -6.2987347], [-2.7781305, -1.4128494, -8.880171, 3.8732903]]])
    elements = [1.9824970e-06, 6.5462857e-01, 3.1963878, 4.6397783e-09, 1.5486209e-04, 6.2640440e-03, 2.0210457e-12, 2.8026555]
    assert focal_loss(logits, torch.tensor([[1, 4]]), 1.0).item() == pytest.approx(sum(elements), rel=1e-6)


def test_focal_golden(golden) -> None:
    logits, targets, elements = isolated_arrays(golden, "focal_logits", "focal_targets", "focal_elem")
    labels = torch.where(targets.any(dim=1), targets.argmax(dim=1), 4)
    assert focal_loss(logits[None], labels[None], 1.0).item() == pytest.approx(isolated_json(golden)["focal_sum"], rel=1e-6)
    for row in range(len(logits)):
        loss = focal_loss(logits[None, row : row + 1], labels[None, row : row + 1], 1.0)
        assert loss.item() == pytest.approx(elements[row].sum().item(), rel=1e-6)


def test_focal_gradient_and_precision() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1, 2, 3]])
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, torch.tensor(2.0)), (logits,))
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = focal_loss(half, labels, 1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, focal_loss(half.float(), labels, 1.0))


def test_focal_no_locations() -> None:
    logits = torch.zeros(2, 0, 3, requires_grad=True)
    loss = focal_loss(logits, torch.zeros(2, 0, dtype=torch.int64), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_focal_ignored_locations_have_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 3, 3, 2, 3], [3, 3, 1, 3, 3]])
    ignored = torch.zeros(2, 5, dtype=torch.bool)
    assert focal_loss(logits, labels, 2.0, ignored).item() == pytest.approx(focal_loss(logits, labels, 2.0).item())
    ignored[0, 1] = ignored[1, 3] = True
    loss = focal_loss(logits, labels, 2.0, ignored)
    kept = focal_loss(logits[~ignored][None], labels[~ignored][None], 2.0)
    assert loss.item() == pytest.approx(kept.item())
    loss.backward()
    assert logits.grad is not None
    assert torch.equal((logits.grad == 0).all(dim=-1), ignored)


def test_centerness_equals_loop_and_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, generator=generator, dtype=torch.float64)
    targets = torch.rand(9, generator=generator, dtype=torch.float64)
    expected = sum(map(oracles.binary_cross_entropy, logits.tolist(), targets.tolist())) / 4
    assert centerness_loss(logits, targets, 4.0).item() == pytest.approx(expected)
    assert centerness_loss(torch.zeros(3), torch.tensor([0.0, 0.3, 1.0]), 3.0).item() == pytest.approx(0.6931472)


def test_centerness_gradient_precision_and_empty_input() -> None:
    targets = torch.rand(4, dtype=torch.float64)
    logits = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: centerness_loss(x, targets, torch.tensor(2.0)), (logits,))
    half = logits.detach().bfloat16()
    loss = centerness_loss(half, targets.float(), 1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, centerness_loss(half.float(), targets.float(), 1.0))
    empty = torch.zeros(0, requires_grad=True)
    nothing = centerness_loss(empty, torch.zeros(0), 1.0)
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None
