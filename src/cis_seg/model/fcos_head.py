"""The FCOS head with CondInst's controller (Tian et al. 2019, 2020).

Legend: B batch, h w grid of a level, K locations of all levels, C classes, P generated parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: the classifier starts by saying "background" everywhere but on one location in a hundred (Lin et al. 2017, focal loss)
CLASS_PRIOR = 0.01
INIT_STD = 0.01


def _tower(in_channels: int, channels: int, num_convs: int, norm_groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers += [
            nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1),
            nn.GroupNorm(norm_groups, channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class FCOSHead(nn.Module):
    """Two towers shared by the levels; box, centerness and controller stand on the box tower.

    Args:
        in_channels: channels of the pyramid.
        channels: channels of the towers.
        num_convs: 3x3 convolutions a tower.
        num_classes: C, without background.
        num_params: P, parameters of one instance's mask head.
        norm_groups: groups of the towers' GroupNorm; 32 in the reference, fewer where the channels are few.
        num_levels: levels, each with a learned scale of its box output.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        num_convs: int,
        num_classes: int,
        num_params: int,
        norm_groups: int = 32,
        num_levels: int = 5,
    ) -> None:
        super().__init__()
        self.cls_tower = _tower(in_channels, channels, num_convs, norm_groups)
        self.box_tower = _tower(in_channels, channels, num_convs, norm_groups)
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.controller = nn.Conv2d(channels, num_params, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))  # type: ignore[arg-type]

    @torch.no_grad()
    def keep_classes(self, labels: Sequence[int]) -> None:
        """Reduces the classifier to the given labels, in their order, for scoring on data that know no others."""
        rows = list(labels)
        self.cls_logits.weight = nn.Parameter(self.cls_logits.weight[rows])
        self.cls_logits.bias = nn.Parameter(self.cls_logits.bias[rows])  # type: ignore[index]
        self.cls_logits.out_channels = len(rows)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pyramid levels ``(B, C_in, h, w)``, finest first, to maps over all K locations.

        Returns:
            class logits ``(B, K, C)``, ltrb ``(B, K, 4)`` in units of the stride (relu of the scaled prediction),
            centerness logits ``(B, K)`` and mask parameters ``(B, K, P)``.
        """
        per_level = [self._level(x, self.scales[i]) for i, x in enumerate(levels)]
        cls_logits, ltrb, ctr, params = (torch.cat(parts, dim=1) for parts in zip(*per_level, strict=True))
        return cls_logits, ltrb, ctr.squeeze(-1), params

    def _level(self, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cls_tower, box_tower = self.cls_tower(x), self.box_tower(x)
        maps = (
            self.cls_logits(cls_tower),
            torch.relu(self.box_pred(box_tower) * scale),
            self.centerness(box_tower),
            self.controller(box_tower),
        )
        cls_logits, ltrb, ctr, params = (m.flatten(2).transpose(1, 2) for m in maps)  # (B, h * w, channels)
        return cls_logits, ltrb, ctr, params
