"""Focal loss: loop, typed reference numbers, gradient, precision, nothing."""

import pytest
import torch

import oracles
from cis_seg.losses.focal import focal_loss
from golden_arrays import isolated_arrays, isolated_json


@pytest.mark.parametrize("num_classes", [1, 4])
def test_equals_loop(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    logits = 3 * torch.randn(2, 7, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, num_classes + 1, (2, 7), generator=generator)
    assert focal_loss(logits, labels, 3.0).item() == pytest.approx(oracles.focal(logits.tolist(), labels.tolist(), 3.0))


def test_hand_computed() -> None:
    # p = 1/2: positive 0.25 * 0.25 * log 2, negative 0.75 * 0.25 * log 2
    loss = focal_loss(torch.zeros(1, 2, 2), torch.tensor([[0, 2]]), 2.0)
    assert loss.item() == pytest.approx((0.0625 + 3 * 0.1875) * 0.6931472 / 2)


def test_typed_reference_numbers() -> None:
    logits = torch.tensor([[[-4.269579, -2.8689814, 4.358877, -6.2987347], [-2.7781305, -1.4128494, -8.880171, 3.8732903]]])
    elements = [1.9824970e-06, 6.5462857e-01, 3.1963878, 4.6397783e-09, 1.5486209e-04, 6.2640440e-03, 2.0210457e-12, 2.8026555]
    assert focal_loss(logits, torch.tensor([[1, 4]]), 1.0).item() == pytest.approx(sum(elements), rel=1e-6)


def test_golden(golden) -> None:
    logits, targets, elements = isolated_arrays(golden, "focal_logits", "focal_targets", "focal_elem")
    labels = torch.where(targets.any(dim=1), targets.argmax(dim=1), 4)
    assert focal_loss(logits[None], labels[None], 1.0).item() == pytest.approx(isolated_json(golden)["focal_sum"], rel=1e-6)
    for row in range(len(logits)):
        loss = focal_loss(logits[None, row : row + 1], labels[None, row : row + 1], 1.0)
        assert loss.item() == pytest.approx(elements[row].sum().item(), rel=1e-6)


def test_gradient_and_precision() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1, 2, 3]])
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, torch.tensor(2.0)), (logits,))
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = focal_loss(half, labels, 1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, focal_loss(half.float(), labels, 1.0))


def test_no_locations() -> None:
    logits = torch.zeros(2, 0, 3, requires_grad=True)
    loss = focal_loss(logits, torch.zeros(2, 0, dtype=torch.int64), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_ignored_locations_neither_count_nor_learn() -> None:
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
