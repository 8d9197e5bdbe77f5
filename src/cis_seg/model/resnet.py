"""ResNets (He et al. 2016), also with deformable convolutions."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from cis_seg.errors import ConfigError
from cis_seg.model.backbone import Backbone, FrozenNorm
from cis_seg.model.layers import ModulatedDeformConv2d

BlockType = type[BasicBlock] | type[Bottleneck]

#: depth -> (block, blocks in stages 2 to 5), He et al. 2016, Table 1; 10 has one block per stage
ARCHITECTURES: dict[int, tuple[BlockType, tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(Backbone):
    """A ResNet without its classifier.

    Args:
        depth: 10, 18, 34, 50 or 101.
        width: channels of stage 2's inner convolutions; 64 is the published network.
        frozen_norm: BatchNorm with fixed statistics and affine (for pretrained weights) instead of a trainable one.
        stride_in_1x1: put the stride of a stage's first bottleneck in its first 1x1 (the MSRA form of the reference's weights) instead of
            its 3x3 (torchvision's weights). A property of the weights.
        frozen_stages: the stem (1) and the stages up to this one get no gradient; 0 trains everything.
        deform_interval: make the 3x3 of every n-th block of stages 3 to 5 deformable, starting at each stage's first block; 0 for none.
            The reference's model "dcni3" is named after an interval of 3, but its builder ignores it: its weights need 1.

    Raises:
        ConfigError: an unknown depth, or deformable blocks in a depth without bottlenecks.
    """

    parts = (("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    unread = ("fc.",)

    def __init__(
        self,
        *,
        depth: int = 50,
        width: int = 64,
        frozen_norm: bool,
        stride_in_1x1: bool = False,
        frozen_stages: int = 0,
        deform_interval: int = 0,
    ) -> None:
        super().__init__()
        if depth not in ARCHITECTURES:
            raise ConfigError(f"there is no ResNet-{depth}", where="model.backbone.depth", expected=f"one of {sorted(ARCHITECTURES)}")
        block, counts = ARCHITECTURES[depth]
        _check_interval(deform_interval, depth)
        norm: Callable[..., nn.Module] = FrozenNorm if frozen_norm else nn.BatchNorm2d
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.out_channels: dict[int, int] = {}
        inplanes = width
        for i, count in enumerate(counts):
            planes = width * 2**i
            layer = _stage(block, inplanes, planes, count, stride=1 if i == 0 else 2, norm=norm, stride_in_1x1=stride_in_1x1)
            if i > 0 and deform_interval:
                _deform(layer, deform_interval)
            self.add_module(f"layer{i + 1}", layer)
            inplanes = planes * block.expansion
            self.out_channels[i + 2] = inplanes
        self._initialise()
        self.freeze(frozen_stages)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, ModulatedDeformConv2d):
                module.zero_offsets()

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Copy torchvision's tensors; those without offset convolutions also fit a deformable network, whose offsets then stay unchanged.

        Raises:
            ValueError: names or shapes do not match; the message counts them and lists the first.
        """
        offsets = {k: v for k, v in self.state_dict().items() if ".conv2.offset." in k}
        super().load_pretrained(state if offsets.keys() & state.keys() else state | offsets)


def _stage(
    block: BlockType, inplanes: int, planes: int, count: int, *, stride: int, norm: Callable[..., nn.Module], stride_in_1x1: bool
) -> nn.Sequential:
    downsample = None
    if stride != 1 or inplanes != planes * block.expansion:
        downsample = nn.Sequential(conv1x1(inplanes, planes * block.expansion, stride), norm(planes * block.expansion))
    first = block(inplanes, planes, stride, downsample, norm_layer=norm)
    if stride_in_1x1 and isinstance(first, Bottleneck):
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    rest = [block(planes * block.expansion, planes, norm_layer=norm) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


def _check_interval(deform_interval: int, depth: int) -> None:
    where = "model.backbone.deform_interval"
    if deform_interval < 0:
        raise ConfigError("a negative interval", where=where, expected="0 (none), 1 (every block), 2, ...", found=deform_interval)
    if deform_interval and ARCHITECTURES[depth][0] is not Bottleneck:
        depths = [d for d, (block, _) in ARCHITECTURES.items() if block is Bottleneck]
        raise ConfigError(
            f"the blocks of ResNet-{depth} cannot be deformable: they are not bottlenecks",
            where=where,
            expected=f"model.backbone.depth one of {depths}, or 0",
            found=deform_interval,
        )


def _deform(layer: nn.Sequential, interval: int) -> None:
    """Replace the 3x3 of every ``interval``-th bottleneck by a deformable one of the same stride."""
    for block in list(layer)[::interval]:
        assert isinstance(block, Bottleneck)  # _check_interval refuses other blocks
        conv = block.conv2
        block.conv2 = ModulatedDeformConv2d(conv.in_channels, conv.out_channels, stride=conv.stride[0])
