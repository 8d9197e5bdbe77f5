"""The FCOS head with CondInst's controller (Tian et al. 2019, 2020).

Legend: B batch, h w grid of a level, K locations of all levels, C classes, F channels of a tower, N instances, P generated parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: initial class probability, so that the many background locations do not dominate the first steps (Lin et al. 2017, section 3.3)
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
    """Two towers shared by all levels; box, centerness and controller use the box tower.

    The controller is a 3x3 convolution, as in the reference, but evaluated only at chosen locations (``mask_params``).

    Args:
        in_channels: channels of the pyramid.
        channels: channels of the towers.
        num_convs: 3x3 convolutions per tower.
        num_classes: C, without background.
        num_params: P, parameters of one instance's mask head.
        norm_groups: groups of the towers' GroupNorm; 32 in the reference, fewer for narrow towers.
        num_levels: number of levels, each with a learned scale of its box output (FCOS, section 3.2).
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
        # prior probability: sigmoid(bias) = CLASS_PRIOR
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))  # type: ignore[arg-type]

    @torch.no_grad()
    def keep_classes(self, labels: Sequence[int]) -> None:
        """Reduce the classifier to the given labels, in this order, to score on a data set with fewer classes."""
        rows = list(labels)
        self.cls_logits.weight = nn.Parameter(self.cls_logits.weight[rows])
        self.cls_logits.bias = nn.Parameter(self.cls_logits.bias[rows])  # type: ignore[index]
        self.cls_logits.out_channels = len(rows)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict at all K locations of the pyramid levels ``(B, C_in, h, w)``, finest first.

        Returns:
            class logits ``(B, K, C)``, ltrb ``(B, K, 4)`` in units of the stride (relu of the scaled prediction),
            centerness logits ``(B, K)`` and the box tower's features ``(B, K, F)``.
        """
        per_level = [self._level(x, self.scales[i]) for i, x in enumerate(levels)]
        cls_logits, ltrb, ctr, feats = (torch.cat(parts, dim=1) for parts in zip(*per_level, strict=True))
        return cls_logits, ltrb, ctr.squeeze(-1), feats

    def mask_params(self, tower_feats: Tensor, around: Tensor, im_inds: Tensor) -> Tensor:
        """Return the controller's output ``(N, P)`` at chosen locations.

        It equals the 3x3 convolution over the whole map, which would compute about 6,400 locations of a 480 x 640 image to use 64.

        Args:
            tower_feats: ``(B, K, F)``, from ``forward``.
            around: ``(N, 9)`` int64, the 3x3 locations around each chosen one, -1 outside the level.
            im_inds: ``(N,)`` int64 image of each.
        """
        inside = (around >= 0).unsqueeze(-1).to(tower_feats.dtype)
        patches = tower_feats[im_inds.unsqueeze(-1), around.clamp(min=0)] * inside  # (N, 9, F)
        weight = self.controller.weight.permute(0, 2, 3, 1).flatten(1)  # (P, 9 * F)
        return F.linear(patches.flatten(1), weight, self.controller.bias)

    def _level(self, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cls_tower, box_tower = self.cls_tower(x), self.box_tower(x)
        maps = (
            self.cls_logits(cls_tower),
            torch.relu(self.box_pred(box_tower) * scale),
            self.centerness(box_tower),
            box_tower,
        )
        cls_logits, ltrb, ctr, feats = (m.flatten(2).transpose(1, 2) for m in maps)  # (B, h * w, channels)
        return cls_logits, ltrb, ctr, feats
