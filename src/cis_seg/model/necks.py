"""The necks: the feature pyramid (FPN) and the bidirectional one (BiFPN), levels P3 to P7.

FPN: Lin et al. 2017, with P6 and P7 as in RetinaNet, on P5. BiFPN: Tan et al. 2020, section 3; sizes and order of AdelaiDet's backbone.

Legend: B batch, C channels of the pyramid, h w grid of a level; levels 0 to 4 of the BiFPN are P3 to P7.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

#: the eight nodes of a repeat in order, each (its level, its inputs): inputs 0 to 4 are the incoming levels, 5 is the output of the
#: first node and so on. Four nodes down the pyramid, then four up; the inputs of a node are at most one level apart.
NODES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
)
FINEST, NUM_LEVELS = 3, 5
#: avoids a division by 0 if all weights of a node are negative (Tan et al. 2020, section 3.3)
EPS = 1e-4


def _conv_norm(in_channels: int, channels: int, kernel: int, *, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)  # the initialisation of the FPN
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)


class Node(nn.Module):
    """Fast normalised fusion of maps of one size (Tan et al. 2020, section 3.3), swish, then a 3x3 without bias and its norm."""

    def __init__(self, num_inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.output = _conv_norm(channels, channels, 3)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """``num_inputs`` maps ``(B, C, h, w)`` -> ``(B, C, h, w)``."""
        positive = self.weights.relu()
        shares = positive / (positive.sum() + EPS)
        total = shares[0] * inputs[0]
        for i, x in enumerate(inputs[1:], start=1):
            total = total + shares[i] * x
        fused: Tensor = self.output(F.silu(total))
        return fused


class Repeat(nn.Module):
    """One pass down and up the five levels.

    Args:
        in_channels: channels of the incoming levels. A level with other channels than ``channels`` first passes a 1x1 with bias and norm.
            The two nodes that read a level share this 1x1, so that its statistics are updated twice per training step, as in the reference.
        channels: C.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict(
            {str(level): _conv_norm(c, channels, 1, bias=True) for level, c in enumerate(in_channels) if c != channels}
        )
        self.nodes = nn.ModuleList(Node(len(inputs), channels) for _, inputs in NODES)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Five maps ``(B, C_in, h, w)``, finest first -> five maps ``(B, C, h, w)`` of the same sizes."""
        maps = [(level, x) for level, x in enumerate(levels)]
        for (level, inputs), node in zip(NODES, self.nodes, strict=True):
            parts = []
            for i in inputs:
                source, x = maps[i]
                x = self.laterals[str(i)](x) if str(i) in self.laterals else x
                parts.append(_resampled(x, source, level, levels[level]))
            maps.append((level, node(parts)))
        last = dict(maps)  # the output of a level is its last node
        return [last[level] for level in range(NUM_LEVELS)]


def _resampled(x: Tensor, source: int, level: int, like: Tensor) -> Tensor:
    """Resample from level ``source`` to a neighbouring ``level``: max pool 3/2/1 to a coarser one, else nearest to the size of ``like``.

    The levels decide, not the sizes: neighbouring levels of a very flat input (32 x 320) can have the same height. The reference raises
    an error for such inputs; all others give its results.
    """
    if source < level:
        return _halve(x)
    if source > level:
        return F.interpolate(x, size=like.shape[-2:], mode="nearest")
    return x


class BiFPN(nn.Module):
    """Bidirectional feature pyramid: repeated fusion of five levels with a learned weight per input.

    Levels 3 to 5 come from C3 to C5, level 6 from C5 by a 1x1, norm and max pool, level 7 from level 6 by max pool alone.
    The norms are ordinary trainable BatchNorm. The reference synchronises their statistics over devices; ``cis_seg.train`` does so for
    every BatchNorm of the network (``sync_batch_norm``).

    Args:
        in_channels: channels of the backbone's stages, ``{stage: channels}``; stages 3 to 5 are read.
        channels: C of every level; 160 in the reference.
        repeats: number of passes down and up; 6 in the reference.
    """

    def __init__(self, in_channels: dict[int, int], *, channels: int = 160, repeats: int = 6) -> None:
        super().__init__()
        self.stages = (3, 4, 5)
        self.reduction = _conv_norm(in_channels[5], channels, 1)
        first = [*(in_channels[s] for s in self.stages), channels, channels]
        self.repeats = nn.ModuleList(Repeat(first if i == 0 else [channels] * NUM_LEVELS, channels) for i in range(repeats))
        self.channels = channels

    def forward(self, stages: dict[int, Tensor]) -> dict[int, Tensor]:
        """``{stage: (B, C_stage, h, w)}`` -> ``{level: (B, channels, H / 2**level, W / 2**level)}`` for levels 3 to 7, sizes rounded up.

        Raises:
            ValueError: training on one image of at most 128 px; BatchNorm refuses the single value per channel of level 7.
        """
        level6 = _halve(self.reduction(stages[5]))
        levels = [*(stages[s] for s in self.stages), level6, _halve(level6)]
        for repeat in self.repeats:
            levels = repeat(levels)
        return {FINEST + i: x for i, x in enumerate(levels)}


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
