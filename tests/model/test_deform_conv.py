"""Modulated deformable convolution: the reference's block, a loop over taps, its start, its gradients, precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import oracles
from cis_seg.model.layers import ModulatedDeformConv2d
from cis_seg.model.resnet import ResNet
from golden_arrays import isolated_arrays


def _drawn(in_channels: int = 2, out_channels: int = 3, stride: int = 1) -> ModulatedDeformConv2d:
    """Offsets of more than a pixel; some taps leave the image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = ModulatedDeformConv2d(in_channels, out_channels, stride=stride)
        nn.init.normal_(conv.weight)
        nn.init.normal_(conv.offset.weight, std=0.5)
        nn.init.normal_(conv.offset.bias)  # type: ignore[arg-type]
    return conv


def _image(channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_golden(golden: Path) -> None:
    names = {
        "conv1.weight": "conv1.weight",
        "conv2.weight": "conv2.weight",
        "conv2.offset.weight": "conv2_offset.weight",
        "conv2.offset.bias": "conv2_offset.bias",
        "conv3.weight": "conv3.weight",
        "downsample.0.weight": "shortcut.weight",
    }
    x, expected, expected_grad = isolated_arrays(golden, "dcn_in", "dcn_out", "dcn_grad_in")
    values = isolated_arrays(golden, *(f"dcn_w:{name}" for name in names.values()))
    # the first block of stage 3 of a network four channels wide: 16 channels in, 8 inside, 32 out, stride 2 in its first 1x1
    block = ResNet(depth=50, width=4, frozen_norm=True, stride_in_1x1=True, deform_interval=1).get_submodule("layer2.0")
    own = dict(block.named_parameters())
    assert own.keys() == names.keys()
    for name, value in zip(names, values, strict=True):
        own[name].data.copy_(value)
    for norm in block.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.get_buffer("running_var").fill_(1 - 1e-5)
    y = block(x.requires_grad_())
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    torch.testing.assert_close(x.grad, expected_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_equals_loop(stride: int) -> None:
    conv, x = _drawn(stride=stride).double(), _image(2, 5, 4).double()
    raw = F.conv2d(x, conv.offset.weight, conv.offset.bias, stride=stride, padding=1)[0]
    assert raw[:18].abs().max() > 2
    expected = oracles.modulated_deform_conv(x[0].tolist(), conv.weight.tolist(), raw.tolist(), stride)
    torch.testing.assert_close(conv(x)[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_starts_as_half_of_the_rigid_convolution() -> None:
    conv, x = ModulatedDeformConv2d(2, 3, stride=2), _image(2, 6, 7)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, stride=2, padding=1) / 2)
    assert conv.offset.weight.shape == (27, 2, 3, 3)
    assert conv.bias is None
    conv(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in conv.parameters()), "and is not stuck there"


def test_gradients() -> None:
    conv = _drawn(1, 1).double()
    x = _image(1, 3, 3).double().requires_grad_()
    parameters = tuple(conv.parameters())
    assert torch.autograd.gradcheck(lambda *_: conv(x), (x, *parameters))


@torch.no_grad()
def test_bfloat16_is_computed_in_float32() -> None:
    conv, x = _drawn(), _image(2, 8, 8)
    exact = conv(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x), exact)
        y = conv(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, conv(x.bfloat16().float()).bfloat16(), rtol=0, atol=0)
    assert conv.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
