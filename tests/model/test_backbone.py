"""What all backbones share: stages, frozen stages that store nothing, and files that do not fit."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import Tensor

from cis_seg.model.backbone import Backbone
from cis_seg.model.mobilenet import MobileNetV2
from cis_seg.model.resnet import ResNet


def _backbone(name: str, frozen_stages: int = 0) -> Backbone:
    if name == "mobilenet_v2":
        return MobileNetV2(frozen_norm=True, frozen_stages=frozen_stages)
    return ResNet(depth=10, width=4, frozen_norm=True, frozen_stages=frozen_stages)


NAMES = pytest.mark.parametrize("name", ["resnet", "mobilenet_v2"])


@NAMES
@pytest.mark.parametrize("frozen", range(6))
def test_frozen_stages_have_no_gradient_and_no_graph(name: str, frozen: int) -> None:
    """Stage by stage: 1 is the stem, so with ``frozen`` 3 the stages 2 and 3 are constants and 4 is the first that is trained."""
    network = _backbone(name, frozen)
    stages = network(torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0)))
    assert {stage: x.requires_grad for stage, x in stages.items()} == {stage: stage > frozen for stage in (2, 3, 4, 5)}
    stored: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (stored.append(x), x)[1], lambda x: x):
        network(torch.randn(1, 3, 32, 64))
    assert bool(stored) == (frozen < 5)
    if frozen < 5:
        sum(x.sum() for x in stages.values() if x.requires_grad).backward()
    parts = [[p for module in names for p in network.get_submodule(module).parameters()] for names in network.parts]
    assert [all(p.grad is None for p in part) for part in parts] == [i < frozen for i in range(5)]
    assert sum(len(part) for part in parts) == len(list(network.parameters())), "every parameter belongs to one part"


@NAMES
def test_files_that_do_not_fit_are_described(name: str) -> None:
    network = _backbone(name)
    state = network.state_dict()
    last = list(state)[-1]
    with pytest.raises(ValueError, match=rf"^1 missing: {re.escape(last)} \(\d+,\)$"):
        network.load_pretrained({key: value for key, value in state.items() if key != last})
    with pytest.raises(ValueError, match=r"^1 unexpected: head\.weight \(1,\)$"):
        network.load_pretrained(state | {"head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=rf"^1 of another shape: {re.escape(last)} \(5,\) instead of \(\d+,\)$"):
        network.load_pretrained(state | {last: torch.zeros(5)})
    with pytest.raises(ValueError, match=rf"^{len(state)} missing: .+, \.\.\.; 2 unexpected: state_dict \(dict\), epoch \(int\)$"):
        network.load_pretrained({"state_dict": {}, "epoch": 3})  # type: ignore[dict-item]
    before = {key: value.clone() for key, value in state.items()}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("name", "extra"), [
    ("resnet", ["fc.weight", "bn1.num_batches_tracked"]),
    ("mobilenet_v2", ["classifier.1.weight", "features.18.0.weight", "features.0.1.num_batches_tracked"]),
])  # fmt: skip
def test_the_last_layers_of_a_classifier_are_not_read(name: str, extra: list[str]) -> None:
    network = _backbone(name)
    state = {key: torch.randn_like(value) for key, value in network.state_dict().items()}
    network.load_pretrained(state | {key: torch.zeros(3) for key in extra})
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("norm", [True, False])
def test_a_trainable_norm_takes_the_files_statistics(norm: bool) -> None:
    theirs = torchvision.models.mobilenet_v2(weights=None).state_dict()
    theirs = {key: torch.rand_like(value) if value.is_floating_point() else value + 7 for key, value in theirs.items()}
    network = MobileNetV2(frozen_norm=norm)
    network.load_pretrained(theirs)
    own = network.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())
    assert any(key.endswith("num_batches_tracked") for key in own) is not norm
