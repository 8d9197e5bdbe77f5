"""The optimiser's two groups and the learning rate, against the reference's."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from cis_seg.config.schema import ModelConfig, OptimConfig, ScheduleConfig
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.training.optim import build_optimizer, lr_factor, make_optimizer, parameter_groups


@pytest.fixture(scope="module")
def r50() -> CondInst:
    """BoxInst's network without numbers in it."""
    with torch.device("meta"):
        return build_model(ModelConfig(), 80)


def _sizes(model: CondInst) -> list[tuple[int, int, float]]:
    """(tensors, elements, weight decay) of each group."""
    return [(len(g["params"]), sum(p.numel() for p in g["params"]), g["weight_decay"]) for g in parameter_groups(model, 1e-4)]  # type: ignore


def test_groups_of_the_r50_network(r50: CondInst) -> None:
    # 96 tensors in the reference, which keeps the five levels' box scales as five tensors; ours are one of five elements
    assert _sizes(r50) == [(92, 34_037_331 - 5_888, 1e-4), (30, 5_888, 0.0)]


def test_groups_equal_the_references(golden: Path, r50: CondInst) -> None:
    groups = json.loads((golden / "solver_and_edge.json").read_text())["R50_FPN"]
    decayed, not_decayed = groups["groups"]["lr=0.01,wd=0.0001,momentum=0.9,nesterov=False"], len(groups["zero_weight_decay"])
    shapes = json.loads((golden / "names_shapes.json").read_text())["R50_FPN"]
    elements = sum(math.prod(shapes["state_dict"][name][0]) for name in groups["zero_weight_decay"])
    ours = _sizes(r50)
    assert ours[0][0] + 4 == decayed
    assert ours[1] == (not_decayed, elements, 0.0)
    assert ours[0][1] == shapes["num_trainable"] - elements


def test_weight_decay_groups() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1, bias=False), nn.Linear(2, 2))
    model[3].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, OptimConfig(name="sgd", lr=0.2, momentum=0.8, weight_decay=0.3))
    assert isinstance(optimizer, SGD)
    groups = [({names[id(p)] for p in g["params"]}, g["weight_decay"], g["lr"], g["momentum"]) for g in optimizer.param_groups]
    assert groups == [
        ({"0.weight", "0.bias", "4.weight", "4.bias"}, 0.3, 0.2, 0.8),
        ({"1.weight", "1.bias", "2.weight"}, 0.0, 0.2, 0.8),
    ]


def test_other_optimisers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
    optimizer = make_optimizer(model, OptimConfig(name="adamw", lr=0.2, momentum=0.8, weight_decay=0.3))
    assert isinstance(optimizer, AdamW)
    assert [(g["lr"], g["betas"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.2, (0.8, 0.999), wd) for wd in (0.3, 0.0)]


def test_rates_equal_the_references(golden: Path) -> None:
    rates = json.loads((golden / "solver_and_edge.json").read_text())["lr_at_iteration_1x"]
    factor = lr_factor(OptimConfig(warmup_steps=1000, warmup_factor=0.001, decay_factor=0.1), ScheduleConfig(decay_steps=[60_000, 80_000]))
    assert {step: 0.01 * factor(int(step)) for step in rates} == pytest.approx(rates, rel=1e-9)


def test_typed_rates() -> None:
    factor = lr_factor(OptimConfig(warmup_steps=1000, warmup_factor=0.001, decay_factor=0.1), ScheduleConfig(decay_steps=[60_000, 80_000]))
    expected = {0: 0.001, 1: 0.001999, 10: 0.01099, 500: 0.5005, 999: 0.999001, 1000: 1.0, 59_999: 1.0, 60_000: 0.1, 80_000: 0.01}
    assert {step: factor(step) for step in expected} == pytest.approx(expected)
    sudden = lr_factor(OptimConfig(warmup_steps=0, warmup_factor=0.001, decay_factor=0.1), ScheduleConfig(decay_steps=[]))
    assert sudden(0) == sudden(10**6) == 1.0
    late = lr_factor(OptimConfig(warmup_steps=10, warmup_factor=0.0, decay_factor=0.1), ScheduleConfig(decay_steps=[5]))
    assert late(5) == pytest.approx(0.05), "a step inside the warm-up counts too"


def test_schedule_moves_both_groups_once_a_step() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
    optimizer, schedule = build_optimizer(model, OptimConfig(lr=0.01, warmup_steps=4, warmup_factor=0.1), ScheduleConfig(decay_steps=[6]))
    rates = []
    for _ in range(8):
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.001, 0.00325, 0.0055, 0.00775, 0.01, 0.01, 0.001, 0.001])


def test_config_reaches_the_optimizer(r50: CondInst) -> None:
    config = OptimConfig(lr=0.5, momentum=0.7, weight_decay=0.2, warmup_steps=10, warmup_factor=0.25, decay_factor=0.5)
    optimizer, schedule = build_optimizer(r50, config, ScheduleConfig(max_steps=100, decay_steps=[20, 30]))
    assert [(g["momentum"], g["weight_decay"], g["lr"]) for g in optimizer.param_groups] == [(0.7, 0.2, 0.125), (0.7, 0.0, 0.125)]
    factor = schedule.lr_lambdas[0]
    assert [factor(step) for step in (10, 20, 30)] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("left_out", [0, 2])
def test_fused_optimizer_skips_a_step_by_a_device_flag(name: str, left_out: int) -> None:
    """The first step too, where torch's own SGD would go on from memory that nobody has written."""

    def trained(steps: list[int]) -> torch.Tensor:
        model = nn.Linear(64, 64)
        nn.init.ones_(model.weight)
        optimizer = make_optimizer(model, OptimConfig(name=name, lr=0.1, momentum=0.9, weight_decay=0.1))
        for step in steps:
            model.weight.grad = torch.full((64, 64), float("nan") if step < 0 else step + 1.0)
            optimizer.found_inf = torch.tensor(float(step < 0))  # type: ignore[attr-defined]
            optimizer.step()
        return model.weight.detach()

    steps = [0, 1, 2, 3]
    assert torch.equal(trained([*steps[:left_out], -1, *steps[left_out:]]), trained(steps))


def _model_and_optimizer(name: str, order: torch.memory_format = torch.contiguous_format) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)).to(memory_format=order)
    return model, make_optimizer(model, OptimConfig(name=name, lr=0.1, momentum=0.9, weight_decay=0.1))


def _step(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(image).square().sum().backward()
    optimizer.step()


def _assert_same(ours: nn.Module, other: nn.Module) -> None:
    for own, expected in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_kernel_agrees_with_the_loop_over_tensors(name: str, order: torch.memory_format) -> None:
    (ours, optimizer), (plain, loop) = _model_and_optimizer(name, order), _model_and_optimizer(name, order)
    for group in loop.param_groups:
        group |= {"fused": False, "foreach": False}
    for seed in range(3):
        _step(ours, optimizer, seed)
        _step(plain, loop, seed)
    _assert_same(ours, plain)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_checkpoint_with_another_kernel_and_order_of_memory_continues_alike(name: str) -> None:
    """The kernels do not check the order on a CPU: with the checkpoint's they would mix up the elements."""
    theirs, ours = _model_and_optimizer(name, torch.channels_last), _model_and_optimizer(name)
    for group in theirs[1].param_groups:
        group |= {"fused": False, "foreach": True}
    _step(*theirs, 0)
    ours[0].load_state_dict(theirs[0].state_dict())
    ours[1].load_state_dict(copy.deepcopy(theirs[1].state_dict()))
    assert all(group["fused"] and not group["foreach"] for group in ours[1].param_groups)
    _step(*theirs, 1)
    _step(*ours, 1)
    _assert_same(ours[0], theirs[0])
