"""FPN and BiFPN: every level and the whole graph against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cis_seg.model.necks import FPN, BiFPN, Node, Repeat

CHANNELS = {2: 2, 3: 3, 4: 5, 5: 6}


def _filled(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Every number drawn, biases, norms and statistics too: fresh ones (0 and 1) would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator) + 0.5
            value.copy_(drawn if name.endswith(("running_var", "weights")) else torch.randn(value.shape, generator=generator))
    return module.to(dtype).eval()


def _stages(height: int, width: int, batch: int = 1) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = {s: (math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in CHANNELS}
    return {s: torch.randn(batch, c, *sizes[s], generator=generator, dtype=torch.float64) for s, c in CHANNELS.items()}


@torch.no_grad()
def test_node_hand_computed() -> None:
    node = Node(3, 1).double().eval()
    node.weights.copy_(torch.tensor([2.0, -5.0, 1.0]))
    conv, norm = node.output
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert conv.bias is None
    conv.weight.zero_()
    conv.weight[0, 0, 1, 1] = -3.0  # the centre alone: value by value
    norm.running_mean.fill_(0.5)  # type: ignore[union-attr]
    norm.running_var.fill_(4.0)  # type: ignore[union-attr]
    norm.bias.fill_(0.25)
    a, b, c = 1.5, 100.0, -0.75
    fused = (2 * a + 0 * b + 1 * c) / (2 + 0 + 1 + 1e-4)  # a negative weight is no weight
    swish = fused / (1 + math.exp(-fused))
    expected = (-3 * swish - 0.5) / math.sqrt(4 + 1e-5) + 0.25
    maps = [torch.full((1, 1, 2, 3), value, dtype=torch.float64) for value in (a, b, c)]
    assert expected < 0, "nothing rectifies the output"
    torch.testing.assert_close(node(maps), torch.full((1, 1, 2, 3), expected, dtype=torch.float64))
    node.weights.fill_(-1.0)
    assert node(maps).isfinite().all()


def _down(x: Tensor) -> Tensor:
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def _up(x: Tensor, like: Tensor) -> Tensor:
    """Nearest by the definition: row i of n reads row floor(i * m / n) of m."""
    rows, columns = ([i * m // n for i in range(n)] for m, n in zip(x.shape[-2:], like.shape[-2:], strict=True))
    return x[..., rows, :][..., columns]


@pytest.mark.parametrize(("height", "width"), [(128, 192), (32, 320), (320, 32), (32, 32), (96, 160)])
@torch.no_grad()
def test_the_graph_written_out(height: int, width: int) -> None:
    neck = _filled(BiFPN(CHANNELS, channels=4, repeats=2))
    assert isinstance(neck, BiFPN)
    stages = _stages(height, width)
    p6 = _down(neck.reduction(stages[5]))
    p3, p4, p5, p7 = stages[3], stages[4], stages[5], _down(p6)
    for i, repeat in enumerate(neck.repeats):
        assert isinstance(repeat, Repeat)
        nodes = list(repeat.nodes)
        if i == 0:
            p3, p4, p5 = (repeat.laterals[str(level)](x) for level, x in enumerate((p3, p4, p5)))
        down6 = nodes[0]([p6, _up(p7, p6)])
        down5 = nodes[1]([p5, _up(down6, p5)])
        down4 = nodes[2]([p4, _up(down5, p4)])
        out3 = nodes[3]([p3, _up(down4, p3)])
        out4 = nodes[4]([p4, down4, _down(out3)])
        out5 = nodes[5]([p5, down5, _down(out4)])
        out6 = nodes[6]([p6, down6, _down(out5)])
        p7 = nodes[7]([p7, _down(out6)])
        p3, p4, p5, p6 = out3, out4, out5, out6
    levels = neck(stages)
    assert list(levels) == [3, 4, 5, 6, 7]
    for level, expected in zip(levels, (p3, p4, p5, p6, p7), strict=True):
        assert levels[level].shape == (1, 4, math.ceil(height / 2**level), math.ceil(width / 2**level))
        torch.testing.assert_close(levels[level], expected, rtol=1e-10, atol=1e-10)


def test_laterals_exist_where_channels_differ_and_two_nodes_share_one() -> None:
    neck = BiFPN({**CHANNELS, 4: 4}, channels=4, repeats=2)
    first, second = neck.repeats
    assert isinstance(first, Repeat)
    assert isinstance(second, Repeat)
    assert (list(first.laterals), list(second.laterals)) == (["0", "2"], [])
    assert all(m.bias is not None for m in first.laterals.modules() if isinstance(m, nn.Conv2d))
    neck.train()({**_single(_stages(128, 128, batch=2)), 4: torch.randn(2, 4, 8, 8)})
    updates = {name: int(value) for name, value in neck.state_dict().items() if name.endswith("num_batches_tracked")}
    assert {name for name, count in updates.items() if count == 2} == {"repeats.0.laterals.2.1.num_batches_tracked"}
    assert set(updates.values()) == {1, 2}


def _single(stages: dict[int, Tensor]) -> dict[int, Tensor]:
    return {s: x.float() for s, x in stages.items()}


def test_norms_and_biases() -> None:
    neck = BiFPN(CHANNELS, channels=4)
    assert len(neck.repeats) == 6
    norms = [m for m in neck.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 1 + 3 + 6 * 8
    assert {(m.eps, m.momentum, m.affine) for m in norms} == {(1e-5, 0.1, True)}
    kernels = [(m.kernel_size, m.bias is not None) for m in neck.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(kernels) == [((1, 1), False)] + [((1, 1), True)] * 3 + [((3, 3), False)] * 48
    assert all(torch.equal(m.weights, torch.ones_like(m.weights)) for m in neck.modules() if isinstance(m, Node))


def test_training_reaches_every_parameter_of_a_flat_input() -> None:
    neck = BiFPN(CHANNELS, channels=4, repeats=2).train()
    levels = neck(_single(_stages(32, 320)))
    torch.stack([x.square().mean() for x in levels.values()]).sum().backward()
    assert [name for name, p in neck.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        neck(_single(_stages(64, 64)))


@torch.no_grad()
def test_bfloat16() -> None:
    neck, stages = BiFPN(CHANNELS, channels=8, repeats=2).eval(), _single(_stages(64, 96))
    exact = neck(stages)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = neck(stages)
    for level, x in levels.items():
        assert x.dtype == torch.bfloat16
        torch.testing.assert_close(x.float(), exact[level], rtol=0, atol=0.05)


def _pyramid(finest: int) -> tuple[FPN, dict[int, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    channels = {2: 2, 3: 3, 4: 5, 5: 6}
    fpn = FPN(channels, channels=4, finest=finest)
    for p in fpn.parameters():
        p.data = torch.randn(p.shape, generator=generator)  # biases too, which start at zero
    return fpn, {s: torch.randn(1, c, 128 // 2**s, 192 // 2**s, generator=generator) for s, c in channels.items()}


def _convs(fpn: FPN, blocks: str) -> list[nn.Module]:
    return list(fpn.fpn.get_submodule(blocks))


def test_top_down_sums() -> None:
    fpn, stages = _pyramid(finest=3)
    levels = fpn(stages)
    lateral, output = _convs(fpn, "inner_blocks"), _convs(fpn, "layer_blocks")
    inner = {5: lateral[2](stages[5])}
    for stage in (4, 3):
        inner[stage] = lateral[stage - 3](stages[stage]) + inner[stage + 1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    for stage in (3, 4, 5):
        torch.testing.assert_close(levels[stage], output[stage - 3](inner[stage]))
    kernels = [(m.kernel_size, m.bias is not None) for m in fpn.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(kernels) == [((1, 1), True)] * 3 + [((3, 3), True)] * 5
    assert {type(m) for m in fpn.modules() if not list(m.children())} <= {nn.Conv2d, nn.Identity}, "no norm"


def test_two_levels_on_top_of_p5() -> None:
    fpn, stages = _pyramid(finest=3)
    levels = fpn(stages)
    extra = fpn.fpn.get_submodule("extra_blocks")
    p6, p7 = extra.get_submodule("p6"), extra.get_submodule("p7")
    expected = F.conv2d(levels[5], p6.weight, p6.bias, stride=2, padding=1)
    torch.testing.assert_close(levels[6], expected)
    assert (expected < 0).any()
    torch.testing.assert_close(levels[7], F.conv2d(expected.relu(), p7.weight, p7.bias, stride=2, padding=1))
    with torch.no_grad():
        other = fpn({**stages, 5: stages[5] + 1})
    assert not torch.equal(other[6], levels[6])


def test_levels_and_sizes() -> None:
    for finest in (3, 2):
        fpn, stages = _pyramid(finest)
        levels = fpn(stages)
        assert list(levels) == list(range(finest, 8))
        assert all(x.shape == (1, 4, 128 // 2**level, -(-192 // 2**level)) for level, x in levels.items())
