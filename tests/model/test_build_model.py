"""From the config to the network: sizes, what belongs to pretrained weights, readable refusals."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.config.validation import node_from_plain
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.model.backbone import FrozenNorm
from cis_seg.model.build import build_model, imagenet_file, load_backbone
from cis_seg.model.condinst import CondInst
from tiny_model import tiny_config, tiny_model


def _without_numbers(config: ModelConfig, num_classes: int = 80) -> CondInst:
    with torch.device("meta"):
        return build_model(config, num_classes)


def _counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters() if p.requires_grad)


# ---------------------------------------------------------------- sizes
def test_number_of_parameters() -> None:
    assert _counts(_without_numbers(ModelConfig())) == (34_259_731, 34_037_331)


@torch.no_grad()
def test_r50_forward() -> None:
    model = build_model(ModelConfig(), 80).eval()
    dense = model(torch.randn(1, 3, 64, 96))
    assert dense.cls_logits.shape == (1, 129, 80)
    assert dense.ltrb.shape == (1, 129, 4)
    params = model.mask_params(dense, torch.zeros(129, dtype=torch.int64), torch.arange(129))
    assert params.shape == (129, 233)
    assert dense.mask_feats.shape == (1, 16, 8, 12)
    assert all(x.isfinite().all() for x in (dense.cls_logits, dense.ltrb, dense.ctr_logits, params, dense.mask_feats))
    assert dense.cls_logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)


def test_sizes_of_the_config_reach_the_parts() -> None:
    sizes = {"mask_head_layers": 2, "mask_feat_channels": 8, "mask_head_channels": 5, "mask_branch_convs": 2}
    config = tiny_config(mask_feat_level=2, head_convs=3, **sizes)
    model = _without_numbers(config, num_classes=7)
    assert model.mask_head.num_params == 10 * 5 + 5 + 5 + 1
    assert model.head.controller.out_channels == 61
    assert model.head.cls_logits.out_channels == 7
    assert len(model.head.cls_tower) == 3 * 3
    assert {m.num_groups for m in model.head.modules() if isinstance(m, nn.GroupNorm)} == {4}
    assert model.mask_branch.num_levels == 4
    assert len(model.mask_branch.tower) == 2 + 1
    dense = model(torch.zeros(1, 3, 64, 96, device="meta"))
    assert dense.mask_feats.shape == (1, 8, 16, 24), "stride 4"


@torch.no_grad()
def test_bifpn_forward_of_a_flat_image() -> None:
    dense = tiny_model(neck="bifpn").eval()(torch.randn(1, 3, 32, 320))
    assert dense.locations.level_inds.bincount().tolist() == [4 * 40, 2 * 20, 10, 5, 3]
    assert dense.cls_logits.isfinite().all()
    assert dense.mask_feats.shape == (1, 4, 4, 40)


def test_weights_start_from_the_seed() -> None:
    assert all(torch.equal(a, b) for a, b in zip(tiny_model().state_dict().values(), tiny_model().state_dict().values(), strict=True))


# ---------------------------------------------------------------- what belongs to the weights
@pytest.mark.parametrize(("weights", "norm", "frozen"), [
    ("imagenet", "auto", True), (None, "auto", False), ("imagenet", "batch", False), (None, "frozen", True),
])  # fmt: skip
def test_norm(weights: str | None, norm: str, frozen: bool) -> None:
    model = _without_numbers(ModelConfig(backbone=BackboneConfig(weights=weights, norm=norm)))
    kinds = {type(m) for m in model.backbone.modules() if "Norm" in type(m).__name__}
    assert kinds == ({FrozenNorm} if frozen else {nn.BatchNorm2d})
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.mask_branch.modules()), "the mask branch always trains its own"
    still = {name.split(".")[0] for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert {"conv1", "layer1"} <= still if weights else still == set()


@pytest.mark.parametrize("in_1x1", [False, True])
def test_position_of_the_stride(in_1x1: bool) -> None:
    block = _without_numbers(ModelConfig(backbone=BackboneConfig(stride_in_1x1=in_1x1))).backbone.get_submodule("layer3.0")
    strides = [block.get_submodule(name).stride for name in ("conv1", "conv2")]
    assert strides == ([(2, 2), (1, 1)] if in_1x1 else [(1, 1), (2, 2)])


def test_statistics_and_order_of_the_config() -> None:
    model = tiny_model(pixel_mean=[1.0, 2.0, 3.0], pixel_std=[4.0, 5.0, 6.0], channel_order="bgr")
    assert model.pixel_mean.flatten().tolist() == [1, 2, 3]
    assert model.pixel_std.flatten().tolist() == [4, 5, 6]
    pixels = torch.tensor([30, 20, 10], dtype=torch.uint8).view(1, 3, 1, 1)
    assert model.normalize(pixels, [(1, 1)]).flatten().tolist() == pytest.approx([9 / 4, 18 / 5, 27 / 6])


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"(?s)model\.backbone\.norm.*auto, frozen or batch.*found: group"):
        _without_numbers(ModelConfig(backbone=BackboneConfig(norm="group")))
    with pytest.raises(ConfigError, match="no ResNet-20"):
        _without_numbers(ModelConfig(backbone=BackboneConfig(depth=20)))
    with pytest.raises(ConfigError, match=r"(?s)model\.backbone\.name.*resnet or mobilenet_v2.*found: vgg"):
        _without_numbers(ModelConfig(backbone=BackboneConfig(name="vgg")))
    with pytest.raises(ConfigError, match=r"(?s)model\.neck.*fpn or bifpn.*found: pan"):
        _without_numbers(tiny_config(neck="pan"))
    with pytest.raises(ConfigError, match=r"(?s)model\.mask_feat_level.*found: 2.*model\.mask_feat_level=3"):
        _without_numbers(tiny_config(neck="bifpn", mask_feat_level=2))


# ---------------------------------------------------------------- pretrained weights
def test_unavailable_imagenet_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    model = tiny_model()
    with pytest.raises(CheckpointError) as info:
        load_backbone(model, BackboneConfig())
    message = str(info.value)
    assert str(tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth") in message
    assert "no route to host" in message
    assert "model.backbone.weights=FILE" in message
    with pytest.raises(ConfigError, match="no ImageNet weights of resnet10"):
        load_backbone(model, BackboneConfig(depth=10))
    load_backbone(model, BackboneConfig(weights=None))  # nothing is asked for


def test_weights_from_a_file(tmp_path: Path) -> None:
    source, model = tiny_model(), tiny_model()
    for p in source.backbone.parameters():
        nn.init.normal_(p)
    path = tmp_path / "weights.pth"
    torch.save(source.backbone.state_dict() | {"fc.weight": torch.zeros(2)}, path)
    config = replace(tiny_config().backbone, weights=str(path))
    load_backbone(model, config)
    assert all(torch.equal(a, b) for a, b in zip(model.backbone.parameters(), source.backbone.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(model.head.parameters(), model.backbone.parameters(), strict=False))


def test_unfit_files_are_named(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "weights.pth"
    config = replace(tiny_config().backbone, weights=str(path))
    with pytest.raises(CheckpointError, match=r"no checkpoint .*weights\.pth"):
        load_backbone(model, config)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read"):
        load_backbone(model, config)
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"(?s)ResNet-10 of width 16.*weights\.pth.*bn1\.weight"):
        load_backbone(model, config)


@pytest.mark.parametrize(("theirs", "ours", "remedy"), [
    ("resnet18", "mobilenet_v2", "use such a file"), ("mobilenet_v2", "resnet", "model.backbone.depth and width"),
])  # fmt: skip
def test_weights_of_another_network(tmp_path: Path, theirs: str, ours: str, remedy: str) -> None:
    """The message names tensors of both, so that the reader sees whose file it is."""
    path, config = tmp_path / "weights.pth", BackboneConfig(name=ours, depth=18, weights=str(tmp_path / "weights.pth"))
    torch.save(torchvision.models.get_model(theirs, weights=None).state_dict(), path)
    with pytest.raises(CheckpointError) as info:
        load_backbone(_without_numbers(ModelConfig(backbone=config)), config)
    message = str(info.value)
    own, other = ("features.0.0.weight (32, 3, 3, 3)", "conv1.weight (64, 3, 7, 7)")[:: 1 if ours == "mobilenet_v2" else -1]
    for text in (str(path), f"torchvision's {'mobilenet_v2' if ours == 'mobilenet_v2' else 'resnet18'}", "tensors; ", remedy):
        assert text in message
    assert re.search(rf"\d+ missing: {re.escape(own)}.*; \d+ unexpected: {re.escape(other)}", message)


def test_imagenet_weights_by_family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert imagenet_file(BackboneConfig(name="mobilenet_v2")) == tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    assert imagenet_file(BackboneConfig(depth=34)).name == "resnet34-b627a593.pth"


# ---------------------------------------------------------------- config of a checkpoint
def test_model_config_from_a_checkpoint() -> None:
    config = tiny_config(channel_order="bgr", size_ranges=[1.0, 2.0, 3.0, 4.0])
    assert node_from_plain(ModelConfig, asdict(config), Path("a.ckpt"), "model") == config


@pytest.mark.parametrize(
    ("plain", "found"),
    [
        (None, "it is not a mapping of options found: NoneType"),
        ({"mask_feat_chanels": 8}, "'mask_feat_chanels' not in 'ModelConfig'"),
        ({"backbone": {"deep": 50}}, "'deep' not in 'BackboneConfig'"),
        ({"neck_channels": "many"}, "'many' of type 'str' could not be converted to Integer"),
        ({"backbone": 50}, "Merge error"),
        ({"backbone": {"depth": 7}}, "backbone.depth: invalid value"),
        ({"head_norm_groups": 3}, "set model.head_norm_groups=2"),
    ],
)
def test_config_of_a_checkpoint_that_does_not_fit(plain: object, found: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        node_from_plain(ModelConfig, plain, Path("a.ckpt"), "model")
    lines = str(caught.value).splitlines()
    assert lines[0] == "the config in a.ckpt does not fit this version of cis_seg"
    assert lines[1] == "  where: a.ckpt, config.model"
    assert lines[2].startswith("  expected: the options of model: backbone, pixel_mean")
    assert found in lines[3]
    assert lines[4].startswith("  what to do: ")
