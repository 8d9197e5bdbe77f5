"""Time by part: every part does its work, and the cut graph gives the whole one's gradients."""

from __future__ import annotations

import torch

from cis_seg.benchmark.parts import PARTS, loads, step_by_part
from cis_seg.benchmark.rows import Setting
from cis_seg.benchmark.scenes import scene
from cis_seg.benchmark.step_rows import Step, our_step, resnet50, still


def test_the_cut_graph_gives_the_whole_ones_gradients() -> None:
    step = Step((64, 96), people=3)
    model, batch = resnet50(Setting(quick=True)), scene((64, 96), 3, batch=2)
    times = step_by_part(model, batch, step, still(model))
    assert tuple(times) == PARTS
    assert min(times.values()) > 0
    by_part = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    terms = our_step(model, batch, step)
    torch.stack([value for name, value in terms.items() if name.startswith("loss_")]).sum().backward()
    whole = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {name for name, grad in whole.items() if grad.any()} <= by_part.keys() <= whole.keys()
    assert any(name.startswith("backbone.layer4") for name in by_part)
    for name, gradient in by_part.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-5, msg=name)


def test_every_size_with_every_number_of_people() -> None:
    found = list(loads(Setting(quick=True)))
    assert [(load.size, load.people) for load in found] == [((64, 96), 2), ((64, 96), 4), ((96, 128), 2), ((96, 128), 4)]
    assert all(load.total == sum(load.ms.values()) for load in found)
