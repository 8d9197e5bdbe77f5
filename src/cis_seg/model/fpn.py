"""The feature pyramid P2/P3..P7 (Lin et al. 2017; P6 and P7 as in RetinaNet, on P5)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7


class FPN(nn.Module):
    """Top-down pyramid with biases and without norm: nearest x2 and sum. P6 is a stride-2 3x3 on P5, P7 the same on relu(P6).

    Args:
        in_channels: channels of the backbone's stages, ``{stage: channels}``.
        channels: channels of every level.
        finest: finest level; 3 as in the reference, 2 for a mask branch of stride 4.
    """

    def __init__(self, in_channels: dict[int, int], *, channels: int = 256, finest: int = 3) -> None:
        super().__init__()
        self.stages = [stage for stage in sorted(in_channels) if stage >= finest]
        # LastLevelP6P7 reads P5 if its two channel counts are equal, else C5; the reference reads P5
        extra = LastLevelP6P7(channels, channels)
        self.fpn = FeaturePyramidNetwork([in_channels[s] for s in self.stages], channels, extra_blocks=extra)
        self.channels = channels

    def forward(self, stages: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{stage: (B, C, h, w)}`` -> ``{level: (B, channels, H / 2**level, W / 2**level)}`` up to level 7."""
        levels = self.fpn(OrderedDict((str(s), stages[s]) for s in self.stages))
        return {int(name.lstrip("p")): x for name, x in levels.items()}
