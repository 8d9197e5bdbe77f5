"""ResNets: torchvision's numbers from torchvision's weights, shapes, the place of the stride, what is frozen."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from cis_seg.errors import ConfigError
from cis_seg.model.layers import ModulatedDeformConv2d
from cis_seg.model.resnet import ResNet
from pretrained import randomise_norms


def _torchvision_stages(network: nn.Module, images: Tensor) -> dict[int, Tensor]:
    x = network.get_submodule("maxpool")(torch.relu(network.get_submodule("bn1")(network.get_submodule("conv1")(images))))
    stages = {}
    for stage in (2, 3, 4, 5):
        x = stages[stage] = network.get_submodule(f"layer{stage - 1}")(x)
    return stages


@pytest.mark.parametrize(("depth", "frozen_norm"), [(50, True), (18, False)])
@torch.no_grad()
def test_torchvision_weights_give_torchvision_features(depth: int, frozen_norm: bool) -> None:
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).double().eval()
    randomise_norms(theirs)
    with torch.device("meta"):
        ours = ResNet(depth=depth, frozen_norm=frozen_norm, frozen_stages=2)
    ours = ours.to_empty(device="cpu").double().eval()
    ours.load_pretrained(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stages, expected = ours(images), _torchvision_stages(theirs, images)
    assert list(stages) == [2, 3, 4, 5]
    for stage, feature in stages.items():
        assert feature.shape == (1, ours.out_channels[stage], 64 // 2**stage, 96 // 2**stage)
        assert expected[stage].std() > 0.1
        torch.testing.assert_close(feature, expected[stage], rtol=1e-9, atol=1e-9)


def test_position_of_the_stride() -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    networks = {place: ResNet(depth=50, width=4, frozen_norm=True, stride_in_1x1=place) for place in (False, True)}
    networks[True].load_state_dict(networks[False].state_dict())
    strides = {place: [(b.conv1.stride, b.conv2.stride) for b in n.get_submodule("layer2")] for place, n in networks.items()}  # type: ignore
    assert strides[False] == [((1, 1), (2, 2)), *[((1, 1), (1, 1))] * 3]
    assert strides[True] == [((2, 2), (1, 1)), *[((1, 1), (1, 1))] * 3]
    first = [networks[place].get_submodule("layer1")[0] for place in (False, True)]  # type: ignore[index]
    assert [block.conv2.stride for block in first] == [(1, 1), (1, 1)], "stage 2 has no stride"
    plain, msra = networks[False](images), networks[True](images)
    assert torch.equal(plain[2], msra[2])
    assert plain[3].shape == msra[3].shape
    assert not torch.allclose(plain[3], msra[3])


def test_norm_and_frozen_stages() -> None:
    frozen = ResNet(depth=18, width=4, frozen_norm=True, frozen_stages=2)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    norms = [m for m in frozen.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms
    assert all(m.eps == 1e-5 for m in norms)
    still = {name.split(".")[0] for name, p in frozen.named_parameters() if not p.requires_grad}
    learning = {name.split(".")[0] for name, p in frozen.named_parameters() if p.requires_grad}
    assert (still, learning) == ({"conv1", "layer1"}, {"layer2", "layer3", "layer4"})
    free = ResNet(depth=18, width=4, frozen_norm=False)
    assert all(p.requires_grad for p in free.parameters())
    assert any(isinstance(m, nn.BatchNorm2d) for m in free.modules())


def test_unknown_depth_is_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no ResNet-20.*model\.backbone\.depth.*\[10, 18, 34, 50, 101\]"):
        ResNet(depth=20, frozen_norm=True)


# ---------------------------------------------------------------- deformable blocks
@pytest.mark.parametrize(("interval", "blocks"), [
    (0, [[], [], [], []]),
    (1, [[], list(range(4)), list(range(23)), list(range(3))]),
    (3, [[], [0, 3], [0, 3, 6, 9, 12, 15, 18, 21], [0]]),
])  # fmt: skip
def test_deformable_blocks(interval: int, blocks: list[list[int]]) -> None:
    with torch.device("meta"):
        network = ResNet(depth=101, width=4, frozen_norm=True, deform_interval=interval)
    layers = [list(network.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)]  # type: ignore[call-overload]
    assert [[i for i, b in enumerate(layer) if isinstance(b.conv2, ModulatedDeformConv2d)] for layer in layers] == blocks


@pytest.mark.parametrize("in_1x1", [False, True])
def test_a_deformable_block_keeps_its_stride(in_1x1: bool) -> None:
    network = ResNet(depth=50, width=4, frozen_norm=True, stride_in_1x1=in_1x1, deform_interval=1)
    strides = [(b.conv1.stride, b.conv2.stride, b.conv2.offset.stride) for b in network.get_submodule("layer3")][:2]  # type: ignore
    first = [((2, 2), (1, 1), (1, 1)), ((1, 1), (2, 2), (2, 2))][not in_1x1]
    assert strides == [first, ((1, 1), (1, 1), (1, 1))]
    stages = network(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[-2:]) for x in stages.values()] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    offsets = [p for name, p in network.named_parameters() if ".offset." in name]
    assert len(offsets) == 2 * 13
    assert not any(p.any() for p in offsets), "the initialisation of convolutions leaves them at zero"


def test_rigid_weights_fit_a_deformable_network() -> None:
    rigid = ResNet(depth=50, width=4, frozen_norm=True).state_dict()
    network = ResNet(depth=50, width=4, frozen_norm=True, deform_interval=1)
    nn.init.ones_(network.get_parameter("layer2.0.conv2.offset.bias"))
    network.load_pretrained(rigid)
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in rigid.items())
    assert {name for name in state.keys() - rigid.keys() if ".conv2.offset." not in name} == set()
    assert state["layer2.0.conv2.offset.bias"].eq(1).all()
    with pytest.raises(ValueError, match=r"layer4\.2\.conv2\.weight"):
        network.load_pretrained({name: value for name, value in rigid.items() if name != "layer4.2.conv2.weight"})
    with pytest.raises(ValueError, match=r"layer4\.2\.conv2\.offset\.bias"):
        network.load_pretrained({name: value for name, value in state.items() if name != "layer4.2.conv2.offset.bias"})
    with pytest.raises(ValueError, match=r"26 unexpected: layer2\.0\.conv2\.offset\.weight"):
        ResNet(depth=50, width=4, frozen_norm=True).load_pretrained(state)


def test_frozen_stages_freeze_deformable_blocks() -> None:
    network = ResNet(depth=50, width=4, frozen_norm=True, frozen_stages=3, deform_interval=1)
    still = {name.split(".")[0] for name, p in network.named_parameters() if not p.requires_grad}
    assert still == {"conv1", "layer1", "layer2"}
    assert not network.get_parameter("layer2.0.conv2.offset.weight").requires_grad


def test_impossible_deformable_blocks_are_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)ResNet-18 .*not bottlenecks.*model\.backbone\.deform_interval.*\[50, 101\]"):
        ResNet(depth=18, frozen_norm=True, deform_interval=1)
    with pytest.raises(ConfigError, match=r"(?s)negative.*deform_interval.*found: -1"):
        ResNet(depth=50, frozen_norm=True, deform_interval=-1)
