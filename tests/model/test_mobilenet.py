"""MobileNetV2: torchvision's numbers at every stage, from its weights and from a file of weights on ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from cis_seg.model.backbone import STRIDES, FrozenNorm
from cis_seg.model.mobilenet import MobileNetV2
from pretrained import randomise_norms

#: torchvision's own nodes: the last module of each stride
NODES = {"features.3": "2", "features.6": "3", "features.13": "4", "features.17": "5"}


def _their_stages(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    stages: dict[str, Tensor] = create_feature_extractor(network, NODES)(images)
    return stages


@pytest.mark.parametrize("frozen_norm", [True, False])
@torch.no_grad()
def test_torchvision_weights_give_torchvision_features(frozen_norm: bool) -> None:
    theirs = torchvision.models.mobilenet_v2(weights=None).double().eval()
    randomise_norms(theirs)
    ours = MobileNetV2(frozen_norm=frozen_norm, frozen_stages=3).double().eval()
    ours.load_pretrained(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = _their_stages(theirs, images)
    for stage, features in ours(images).items():
        assert features.shape == (1, ours.out_channels[stage], 64 // STRIDES[stage], 96 // STRIDES[stage])
        assert expected[str(stage)].std() > 0.01
        torch.testing.assert_close(features, expected[str(stage)], rtol=1e-9, atol=1e-9)


def test_norm_and_first_modules() -> None:
    network = MobileNetV2(frozen_norm=True, frozen_stages=3)
    assert {type(m) for m in network.modules() if "Norm" in type(m).__name__ and "Conv" not in type(m).__name__} == {FrozenNorm}
    still = {int(name.split(".")[1]) for name, p in network.named_parameters() if not p.requires_grad}
    assert still == set(range(7)), "the first seven modules"
    assert sum(p.numel() for p in network.parameters()) == 1_780_160, "the frozen norms have none"


@torch.no_grad()
def test_the_file_without_a_classifier(shared_data: Path) -> None:
    state = torch.load(shared_data / "weights" / "mobilenet_v2_imagenet.pth", weights_only=True)
    ours, theirs = MobileNetV2(frozen_norm=True).eval(), torchvision.models.mobilenet_v2(weights=None).eval()
    ours.load_pretrained(state)
    theirs.load_state_dict(state, strict=False)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = _their_stages(theirs, images)
    for stage, features in ours(images).items():
        torch.testing.assert_close(features, expected[str(stage)], rtol=1e-4, atol=1e-4)
