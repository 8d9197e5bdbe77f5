"""CondInst as one module: images to dense predictions, and dense predictions to mask logits.

Legend: B batch, K locations of all levels, N instances, P parameters, H W padded input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cis_seg.errors import ConfigError
from cis_seg.model.backbone import ResNet
from cis_seg.model.bifpn import BiFPN
from cis_seg.model.dynamic_mask_head import DynamicMaskHead
from cis_seg.model.fcos_head import FCOSHead
from cis_seg.model.fpn import FPN
from cis_seg.model.mask_branch import MaskBranch
from cis_seg.ops.locations import level_locations
from cis_seg.structures import DensePredictions, MaskSamples

LEVELS = (3, 4, 5, 6, 7)


class CondInst(nn.Module):
    """FCOS with a controller, a mask branch and a dynamic mask head (Tian et al. 2020; sizes of BoxInst, Tian et al. 2021).

    ``forward`` knows neither targets nor losses. Pixel statistics and channel order are buffers and options of the model,
    because they belong to its weights: they travel with every checkpoint.

    Args:
        backbone, neck, head, mask_branch, mask_head: the parts.
        pixel_mean, pixel_std: per channel, in the weights' channel order, on pixels 0..255.
        channel_order: "rgb" or "bgr", the order the weights expect; images always arrive as RGB.
        finest_mask_level: finest pyramid level the mask branch reads (3, or 2 for stride 4).

    Raises:
        ConfigError: another channel order.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: ResNet,
        neck: FPN | BiFPN,
        head: FCOSHead,
        mask_branch: MaskBranch,
        mask_head: DynamicMaskHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        channel_order: str,
        finest_mask_level: int = 3,
    ) -> None:
        super().__init__()
        if channel_order not in ("rgb", "bgr"):
            raise ConfigError("unknown channel order", where="model.channel_order", expected="rgb or bgr", found=channel_order)
        self.backbone, self.neck, self.head, self.mask_branch = backbone, neck, head, mask_branch
        self.mask_head = mask_head
        self.channel_order = channel_order
        self.finest_mask_level = finest_mask_level
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(1, 3, 1, 1))

    def normalize(self, pixels: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """``(B, 3, H, W)`` RGB pixels 0..255 -> the network's input: weights' channel order, standardised, padding exactly 0."""
        x = pixels.flip(1) if self.channel_order == "bgr" else pixels
        x = (x - self.pixel_mean) / self.pixel_std
        for image, (height, width) in zip(x, image_sizes, strict=True):
            image[:, height:].zero_()
            image[:, :, width:].zero_()
        return x.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> DensePredictions:
        """``(B, 3, H, W)`` normalised images, H and W multiples of 32 -> predictions at all locations."""
        levels = self.neck(self.backbone(images))
        cls_logits, ltrb, ctr_logits, mask_params = self.head([levels[i] for i in LEVELS])
        mask_feats = self.mask_branch([levels[i] for i in range(self.finest_mask_level, LEVELS[2] + 1)])
        locations, level_inds, strides = self._grid(levels)
        return DensePredictions(cls_logits, ltrb, ctr_logits, mask_params, mask_feats, locations, level_inds, strides)

    def mask_logits(self, dense: DensePredictions, samples: MaskSamples) -> Tensor:
        """``(N, h, w)`` logits at ``mask_out_stride`` of the chosen locations."""
        return self.mask_head(
            dense.mask_feats,
            dense.mask_params[samples.im_inds, samples.loc_inds],
            dense.locations[samples.loc_inds],
            dense.strides[samples.loc_inds],
            samples.counts,
        )

    @staticmethod
    def _grid(levels: dict[int, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        device = levels[LEVELS[0]].device
        grids = [level_locations(levels[i].shape[-2], levels[i].shape[-1], 2**i, device) for i in LEVELS]
        sizes = torch.tensor([len(g) for g in grids], device=device)
        level_inds = torch.repeat_interleave(torch.arange(len(LEVELS), device=device), sizes, output_size=sum(len(g) for g in grids))
        return torch.cat(grids), level_inds, (2.0 ** (level_inds + LEVELS[0])).float()
