"""Mask branch: the aligned sum against loops, layers, running statistics."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cis_seg.model.mask_branch import MaskBranch


def _levels(generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(1, 3, 8 // 2**i, 12 // 2**i, generator=generator) for i in range(3)]


@torch.no_grad()
def test_equals_composition_with_loop_upsampling() -> None:
    torch.manual_seed(0)
    branch = MaskBranch(3, channels=2, num_convs=2, out_channels=4).eval()
    levels = _levels(torch.Generator().manual_seed(0))
    total = branch.refine[0](levels[0])
    for i in (1, 2):
        coarse = branch.refine[i](levels[i])[0]
        total = total + torch.tensor([[oracles.aligned_bilinear(plane.tolist(), 2**i) for plane in coarse]])
    features = branch(levels)
    torch.testing.assert_close(features, branch.tower(total), rtol=1e-5, atol=1e-5)
    assert features.shape == (1, 4, 8, 12)
    assert (features < 0).any(), "nothing comes after the last 1x1"


def test_layers() -> None:
    branch = MaskBranch(256)
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [[type(m) for m in refine] for refine in branch.refine] == [block] * 3  # type: ignore[attr-defined]
    parts = [[type(m) for m in part] if isinstance(part, nn.Sequential) else type(part) for part in branch.tower]
    assert parts == [block] * 4 + [nn.Conv2d]
    assert [tuple(m.weight.shape) for m in branch.modules() if isinstance(m, nn.Conv2d)] == [
        *[(128, 256, 3, 3)] * 3, *[(128, 128, 3, 3)] * 4, (16, 128, 1, 1)
    ]  # fmt: skip
    assert MaskBranch(4, num_levels=1, channels=2, out_channels=8)([torch.randn(2, 4, 5, 7)]).shape == (2, 8, 5, 7)


def test_ordinary_batch_norm() -> None:
    branch, levels = MaskBranch(3, channels=2), _levels(torch.Generator().manual_seed(0))
    norms = [m for m in branch.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(p.requires_grad for norm in norms for p in norm.parameters())
    branch.train()(levels)
    assert all(norm.running_mean is not None and norm.running_mean.any() for norm in norms)
    still = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    branch.eval()(levels)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, still, strict=True))  # type: ignore[arg-type]


def test_grids_must_divide() -> None:
    with pytest.raises(AssertionError):
        MaskBranch(3, channels=2)([torch.zeros(2, 3, 8, 12), torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 2, 3)])
