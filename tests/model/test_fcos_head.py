"""FCOS head: order of the locations, who stands on which tower, scales, first outputs."""

import pytest
import torch
from torch import Tensor, nn

from cis_seg.model.fcos_head import FCOSHead
from cis_seg.ops.grids import level_neighbours

SIZES = [(4, 6), (2, 3), (1, 2)]


def _head() -> FCOSHead:
    torch.manual_seed(0)
    head = FCOSHead(6, channels=8, num_convs=2, num_classes=3, num_params=5, norm_groups=4, num_levels=3)
    for p in head.parameters():
        nn.init.normal_(p, mean=0.1, std=0.3)
    return head


def _levels() -> list[Tensor]:
    return [torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(1)) for size in SIZES]


def test_locations_row_by_row_finest_level_first() -> None:
    head, levels = _head(), _levels()
    cls_logits, ltrb, ctr_logits, feats = head(levels)
    assert cls_logits.shape == (2, 32, 3)
    assert ltrb.shape == (2, 32, 4)
    assert ctr_logits.shape == (2, 32)
    assert feats.shape == (2, 32, 8)
    start = 0
    for i, (x, (h, w)) in enumerate(zip(levels, SIZES, strict=True)):
        cls_tower, box_tower = head.cls_tower(x), head.box_tower(x)
        for y, col in ((0, 0), (h - 1, 0), (0, w - 1), (h // 2, w // 2)):
            k = start + y * w + col
            torch.testing.assert_close(cls_logits[:, k], head.cls_logits(cls_tower)[:, :, y, col])
            torch.testing.assert_close(ctr_logits[:, k], head.centerness(box_tower)[:, 0, y, col])
            torch.testing.assert_close(feats[:, k], box_tower[:, :, y, col])
            torch.testing.assert_close(ltrb[:, k], (head.box_pred(box_tower)[:, :, y, col] * head.scales[i]).relu())
        start += h * w


def test_mask_params_are_the_controller_as_a_convolution() -> None:
    head, levels = _head(), _levels()
    around, start = [], 0
    for h, w in SIZES:
        around.append(level_neighbours(h, w, start, "cpu"))
        start += h * w
    im_inds, loc_inds = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 31, 9, 9, 26])
    *_, feats = head(levels)
    params = head.mask_params(feats, torch.cat(around)[loc_inds], im_inds)
    everywhere = torch.cat([head.controller(head.box_tower(x)).flatten(2).transpose(1, 2) for x in levels], dim=1)
    torch.testing.assert_close(params, everywhere[im_inds, loc_inds])
    direction = torch.randn(params.shape, generator=torch.Generator().manual_seed(2))
    for ours, theirs in zip(
        torch.autograd.grad((params * direction).sum(), list(head.parameters()), allow_unused=True),
        torch.autograd.grad((everywhere[im_inds, loc_inds] * direction).sum(), list(head.parameters()), allow_unused=True),
        strict=True,
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_empty_mask_params_still_reach_the_controller() -> None:
    head, levels = _head(), _levels()
    *_, feats = head(levels)
    nothing = torch.zeros(0, dtype=torch.int64)
    params = head.mask_params(feats, nothing.view(0, 9), nothing)
    assert params.shape == (0, 5)
    (gradient,) = torch.autograd.grad(params.sum(), head.controller.weight)
    assert torch.equal(gradient, torch.zeros_like(gradient)), "or the processes of a distributed run would wait for it"


def test_outputs_depend_on_their_tower() -> None:
    head, levels = _head(), _levels()
    before = head(levels)
    with torch.no_grad():
        head.cls_tower[0].weight.mul_(-1)  # type: ignore[operator]
    changed = [not torch.equal(a, b) for a, b in zip(before, head(levels), strict=True)]
    assert changed == [True, False, False, False], "only the classes read the class tower"
    before = head(levels)
    with torch.no_grad():
        head.box_tower[0].weight.mul_(-1)  # type: ignore[operator]
    changed = [not torch.equal(a, b) for a, b in zip(before, head(levels), strict=True)]
    assert changed == [False, True, True, True], "box, centerness and controller read the box tower"


def test_each_level_has_its_scale() -> None:
    head, levels = _head(), _levels()
    _, before, _, _ = head(levels)
    assert (before >= 0).all()
    assert (before == 0).any(), "relu cut something"
    with torch.no_grad():
        head.scales[1] *= 2
    _, after, _, _ = head(levels)
    torch.testing.assert_close(after, torch.cat([before[:, :24], 2 * before[:, 24:30], before[:, 30:]], dim=1))


def test_layers_and_first_outputs() -> None:
    torch.manual_seed(0)
    head = FCOSHead(32, channels=64, num_convs=4, num_classes=80, num_params=233)
    for tower in (head.cls_tower, head.box_tower):
        assert [type(m) for m in tower] == [nn.Conv2d, nn.GroupNorm, nn.ReLU] * 4
        assert [m.num_groups for m in tower if isinstance(m, nn.GroupNorm)] == [32] * 4
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.kernel_size == (3, 3) and conv.bias is not None for conv in convs)
    assert torch.cat([conv.weight.flatten() for conv in convs]).std().item() == pytest.approx(0.01, rel=0.01)
    assert head.scales.tolist() == [1.0] * 5
    cls_logits = head([torch.randn(1, 32, 4, 4)] * 5)[0]
    assert cls_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.1)
