"""Time by part: all parts take time, and the cut graph gives the gradients of the whole graph."""

from __future__ import annotations

import torch

from cis_seg.benchmark.report import PARTS, step_by_part
from cis_seg.benchmark.rows import Setting
from cis_seg.benchmark.step_rows import Step, negligible_sgd, our_module, random_network
from cis_seg.benchmark.textbook import scene
from cis_seg.config.schema import ModelConfig


def test_cut_graph_gives_the_gradients_of_the_whole_graph() -> None:
    step = Step((64, 96), people=3)
    model, batch = random_network(Setting(quick=True), ModelConfig()), scene((64, 96), 3, batch=2)
    times = step_by_part(model, batch, step, negligible_sgd(model))
    assert tuple(times) == PARTS
    assert min(times.values()) > 0
    by_part = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    terms = our_module(model, step).losses(batch, step=1)
    torch.stack([value for name, value in terms.items() if name.startswith("loss_")]).sum().backward()
    whole = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {name for name, grad in whole.items() if grad.any()} <= by_part.keys() <= whole.keys()
    assert any(name.startswith("backbone.layer4") for name in by_part)
    for name, gradient in by_part.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-5, msg=name)
