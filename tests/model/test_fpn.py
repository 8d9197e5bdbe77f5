"""Feature pyramid: every level against its definition."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cis_seg.model.fpn import FPN


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
