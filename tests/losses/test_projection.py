"""Projection loss: loop, typed and golden reference numbers with their gradients, precision, nothing."""

import pytest
import torch

import oracles
from cis_seg.losses.projection import projection_loss
from golden_arrays import isolated_arrays


def test_equals_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64)
    boxes = torch.rand(4, 5, 6, generator=generator) > 0.8
    assert projection_loss(scores, boxes).item() == pytest.approx(oracles.projection(scores.tolist(), boxes.double().tolist()))


def test_hand_computed() -> None:
    scores = torch.tensor([[[0.5, 0.0], [0.0, 1.0]]])
    boxes = torch.tensor([[[1, 0], [1, 0]]])
    # columns: (0.5, 1) and (1, 0): 1 - 1 / (1.25 + 1); rows: (0.5, 1) and (1, 1): 1 - 3 / (1.25 + 2)
    assert projection_loss(scores, boxes).item() == pytest.approx(1 - 1 / 2.25 + 1 - 3 / 3.25, abs=1e-5)


def test_typed_reference_numbers() -> None:
    """All-zero logits on 16 x 20 with the box in rows 3..8, columns 4..14: the maxima are ties, the gradient goes to one pixel each."""
    logits = torch.zeros(1, 16, 20, requires_grad=True)
    box = torch.zeros(1, 16, 20)
    box[:, 3:9, 4:15] = 1
    loss = projection_loss(logits.sigmoid(), box)
    assert loss.item() == pytest.approx(0.31250042 + 0.40000057, rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0].item() / 7 == pytest.approx(0.00367745, rel=1e-5)  # the reference's mean was over 7 samples
    assert logits.grad[0, 0, 1].item() / 7 == pytest.approx(0.001534596, rel=1e-5)
    assert logits.grad.count_nonzero() == 16 + 20 - 1


@pytest.mark.parametrize("case", ["a", "b"])
def test_golden(golden, case: str) -> None:
    names = (f"prj_{case}_{name}" for name in ("logits", "target", "loss", "grad", "dice_colprofile", "dice_rowprofile"))
    logits, target, loss, grad, columns, rows = isolated_arrays(golden, *names)
    logits.requires_grad_()
    ours = projection_loss(logits[:, 0].sigmoid(), target[:, 0])
    ours.backward()
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(logits.grad, grad, rtol=1e-5, atol=1e-8)
    for n in range(len(logits)):
        one = projection_loss(logits[n].detach().sigmoid(), target[n])
        assert one.item() == pytest.approx((columns[n] + rows[n]).item(), rel=1e-5)


def test_gradient_precision_and_empty_input() -> None:
    boxes = torch.rand(2, 4, 3) > 0.5
    scores = torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: projection_loss(x, boxes), (scores,))
    half = scores.detach().bfloat16()
    loss = projection_loss(half, boxes)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, projection_loss(half.float(), boxes))
    empty = torch.zeros(0, 4, 3, requires_grad=True)
    nothing = projection_loss(empty, torch.zeros(0, 4, 3))
    nothing.backward()
    assert nothing.item() == 0
    assert empty.grad is not None


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"chosen \(N,\), got \(2, 1, 4, 3\), \(2, 4, 3\), \(2,\)"):
        projection_loss(torch.zeros(2, 1, 4, 3), torch.zeros(2, 4, 3))


def test_a_choice_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, boxes = torch.rand(4, 4, 3, generator=generator, dtype=torch.float64), torch.rand(4, 4, 3, generator=generator) > 0.5
    chosen = torch.tensor([True, False, False, True])
    expected = oracles.projection(scores[chosen].tolist(), boxes[chosen].double().tolist())
    assert projection_loss(scores, boxes, chosen).item() == pytest.approx(expected)
    learning = scores.clone().requires_grad_()
    projection_loss(learning, boxes, chosen).backward()
    assert learning.grad is not None
    assert learning.grad.flatten(1).any(dim=1).tolist() == chosen.tolist()
    assert projection_loss(scores, boxes, torch.zeros(4, dtype=torch.bool)).item() == 0
    assert torch.autograd.gradcheck(lambda x: projection_loss(x, boxes, chosen), (learning,))
