"""Centerness loss: loop, gradient, precision, nothing. Its targets are tested with the boxes."""

import pytest
import torch

import oracles
from cis_seg.losses.centerness import centerness_loss, centerness_targets
from cis_seg.ops import boxes


def test_equals_loop_and_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, generator=generator, dtype=torch.float64)
    targets = torch.rand(9, generator=generator, dtype=torch.float64)
    expected = sum(map(oracles.binary_cross_entropy, logits.tolist(), targets.tolist())) / 4
    assert centerness_loss(logits, targets, 4.0).item() == pytest.approx(expected)
    assert centerness_loss(torch.zeros(3), torch.tensor([0.0, 0.3, 1.0]), 3.0).item() == pytest.approx(0.6931472)


def test_targets_are_the_boxes_formula() -> None:
    assert centerness_targets is boxes.centerness_targets


def test_gradient_precision_and_nothing() -> None:
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
