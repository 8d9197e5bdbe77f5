"""The mask branch: features shared by the mask heads of all instances (CondInst, section 3.2).

Legend: B batch, M mask feature channels, h w the finest level's grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cis_seg.ops.masks import aligned_bilinear


def _block(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class MaskBranch(nn.Module):
    """A 3x3 per level, aligned upsampling to the finest level, sum, then a tower and a 1x1.

    Args:
        in_channels: channels of the pyramid.
        num_levels: number of levels read, finest first (P3, P4, P5 in the reference).
        channels: channels of the tower.
        num_convs: 3x3 convolutions of the tower.
        out_channels: M; 16 for BoxInst, 8 for CondInst.
    """

    def __init__(self, in_channels: int, *, num_levels: int = 3, channels: int = 128, num_convs: int = 4, out_channels: int = 16) -> None:
        super().__init__()
        self.refine = nn.ModuleList(_block(in_channels, channels) for _ in range(num_levels))
        self.tower = nn.Sequential(*(_block(channels, channels) for _ in range(num_convs)), nn.Conv2d(channels, out_channels, 1))
        self.num_levels = num_levels

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Pyramid levels ``(B, C, h / 2**i, w / 2**i)``, finest first -> ``(B, M, h, w)``.

        Raises:
            AssertionError: a level's grid does not divide the finest's (inputs are padded to a multiple of 32).
        """
        total = self.refine[0](levels[0])
        for i in range(1, self.num_levels):
            x = self.refine[i](levels[i])
            factor = total.shape[-1] // x.shape[-1]
            assert total.shape[-2:] == torch.Size((x.shape[-2] * factor, x.shape[-1] * factor)), (total.shape, x.shape)
            total = total + aligned_bilinear(x, factor)
        features: Tensor = self.tower(total)
        return features
