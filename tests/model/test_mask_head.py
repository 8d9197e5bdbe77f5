"""The mask branch against its composition, and the dynamic mask head against a loop over instances."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import oracles
from cis_seg.errors import ConfigError
from cis_seg.model.mask_head import DynamicMaskHead, MaskBranch
from golden_arrays import isolated_arrays

STRIDES = torch.tensor([8.0, 16.0, 32.0, 64.0, 128.0])


def _inputs(
    head: DynamicMaskHead, counts: tuple[int, ...], dtype: torch.dtype = torch.float32, grid: tuple[int, int] = (3, 4)
) -> list[Tensor]:
    """Mask features, parameters, locations and strides, instances on all levels in turn."""
    generator = torch.Generator().manual_seed(sum(counts))
    features = head.weight_shapes[0][1] - 2
    num = sum(counts)
    return [
        torch.randn(len(counts), features, *grid, generator=generator, dtype=dtype),
        torch.randn(num, head.num_params, generator=generator, dtype=dtype),
        torch.rand(num, 2, generator=generator) * 80,
        STRIDES[torch.arange(num) % 5],
    ]


def _loop(head: DynamicMaskHead, inputs: list[Tensor], counts: tuple[int, ...]) -> Tensor:
    feats, params, locations, strides = inputs
    images = [image for image, count in enumerate(counts) for _ in range(count)]
    channels, layers = head.weight_shapes[0][0], len(head.weight_shapes)
    masks = []
    for n, image in enumerate(images):
        x, y = locations[n].tolist()
        # the reference's sizes of interest: 64, 128, 256, 512, 1024
        size = 64 * 2 ** [8, 16, 32, 64, 128].index(int(strides[n]))
        logits = oracles.dynamic_mask_head(feats[image].tolist(), params[n].tolist(), (x, y), size, head.feat_stride, channels, layers)
        masks.append(oracles.aligned_bilinear(logits, head.factor))
    return torch.tensor(masks)


def test_golden(golden: Path) -> None:
    names = ("mh_mask_feats", "mh_params", "mh_im_inds", "mh_levels", "mh_locations_xy", "mh_logits_stride4")
    feats, params, im_inds, levels, locations, expected = isolated_arrays(golden, *names)
    order = im_inds.argsort(stable=True)  # ours come grouped by image
    counts = im_inds.bincount(minlength=2).tolist()
    assert counts == [2, 2]
    logits = DynamicMaskHead()(feats, params[order], locations[order], STRIDES[levels[order]], counts)
    torch.testing.assert_close(logits, expected[order, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [(5,), (3, 0, 2), (0, 4), (1, 0)])
@pytest.mark.parametrize(("features", "channels", "layers", "strides"), [(2, 3, 3, (8, 4)), (1, 2, 2, (8, 8)), (3, 2, 4, (4, 1))])
def test_equals_loop(counts: tuple[int, ...], features: int, channels: int, layers: int, strides: tuple[int, int]) -> None:
    head = DynamicMaskHead(in_channels=features, channels=channels, num_layers=layers, feat_stride=strides[0], out_stride=strides[1])
    inputs = _inputs(head, counts, torch.float64)
    logits = head(*inputs, counts)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, _loop(head, inputs, counts).double(), rtol=1e-5, atol=1e-5)


def test_typed_numbers() -> None:
    """One feature, two layers, a location at (12, 4): -6 + relu(2 * dx + 1 * dy + 3 * f + 5) * 10, where dx is 0 and -1/8 a cell."""
    head = DynamicMaskHead(in_channels=1, channels=1, num_layers=2, feat_stride=8, out_stride=8)
    params = torch.tensor([[2.0, 1, 3, 10, 5, -6]])
    features = torch.tensor([[[[0.0, 0, 1]]]])  # cells at x = 4, 12, 20
    logits = head(features, params, torch.tensor([[12.0, 4.0]]), torch.tensor([8.0]), [1])
    torch.testing.assert_close(logits, torch.tensor([[[-6 + 10 * 5.25, -6 + 10 * 5.0, -6 + 10 * 7.75]]]))


def test_number_of_parameters() -> None:
    assert DynamicMaskHead().num_params == 233, "BoxInst"
    assert DynamicMaskHead(in_channels=8).num_params == 169, "CondInst"
    assert DynamicMaskHead(in_channels=8).split_sizes == [80, 64, 8, 8, 8, 1]


@pytest.mark.parametrize("counts", [(0,), (0, 0, 0)])
def test_no_instances(counts: tuple[int, ...]) -> None:
    head = DynamicMaskHead(in_channels=2, channels=2)
    feats, params, locations, strides = _inputs(head, counts)
    logits = head(feats.requires_grad_(), params.requires_grad_(), locations, strides, counts)
    assert logits.shape == (0, 6, 8)
    logits.sum().backward()
    assert feats.grad is not None
    assert params.grad is not None
    assert not feats.grad.any()


def test_instances_read_their_own_image_only() -> None:
    head, counts = DynamicMaskHead(in_channels=2, channels=2), (1, 2)
    feats, *rest = _inputs(head, counts)
    feats.requires_grad_()
    head(feats, *rest, counts)[0].sum().backward()
    assert feats.grad is not None
    assert feats.grad[0].any()
    assert not feats.grad[1].any()


def test_gradient() -> None:
    head, counts = DynamicMaskHead(in_channels=2, channels=2), (2, 0, 1)
    feats, params, locations, strides = _inputs(head, counts, torch.float64, grid=(2, 3))
    inputs = (feats.requires_grad_(), params.requires_grad_())
    assert torch.autograd.gradcheck(lambda f, p: head(f, p, locations, strides, counts), inputs)


def test_precision() -> None:
    head, counts = DynamicMaskHead(), (2, 1)
    feats, params, locations, strides = _inputs(head, counts)
    locations = locations + 1200  # a folded bias of this size would lose its fraction in bfloat16
    exact = head(feats, params, locations, strides, counts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(feats, params, locations, strides, counts), exact)
        rounded = head(feats.bfloat16(), params.bfloat16(), locations, strides, counts)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, head(feats.bfloat16().float(), params.bfloat16().float(), locations, strides, counts))
    assert (rounded - exact).abs().mean() / exact.std() < 1e-2


def test_impossible_stride_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)model.mask_out_stride.*a divisor of 8.*found: 3"):
        DynamicMaskHead(out_stride=3)
    with pytest.raises(ConfigError, match="found: 16"):
        DynamicMaskHead(out_stride=16)


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
