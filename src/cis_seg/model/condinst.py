"""CondInst as one module: images to dense predictions, and dense predictions to mask logits.

Legend: B batch, K locations of all levels, N instances, P parameters, H W padded input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cis_seg.errors import ConfigError
from cis_seg.model.backbone import Backbone
from cis_seg.model.fcos_head import FCOSHead
from cis_seg.model.mask_head import DynamicMaskHead, MaskBranch
from cis_seg.model.necks import FPN, BiFPN
from cis_seg.ops.grids import pyramid_locations
from cis_seg.structures import DensePredictions, Locations, MaskSamples

LEVELS = (3, 4, 5, 6, 7)


class CondInst(nn.Module):
    """FCOS with a controller, a mask branch and a dynamic mask head (Tian et al. 2020; sizes of BoxInst, Tian et al. 2021).

    ``forward`` has no targets and no losses. The pixel statistics are buffers and the channel order is an option of the model, because
    they belong to its weights and are saved in every checkpoint.

    Args:
        backbone, neck, head, mask_branch, mask_head: the parts.
        pixel_mean, pixel_std: per channel, in the weights' channel order, on pixels 0..255.
        channel_order: "rgb" or "bgr", the order the weights expect; images always arrive as RGB.
        finest_mask_level: finest pyramid level that the mask branch reads (3, or 2 for stride 4).

    Raises:
        ConfigError: an unknown channel order.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
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
        self._render: Callable[..., Tensor] = mask_head
        self.channel_order = channel_order
        self.finest_mask_level = finest_mask_level
        self.use_memory_format(torch.channels_last)
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(1, 3, 1, 1))

    def use_memory_format(self, order: torch.memory_format) -> None:
        """Store weights and input in this order, which all feature maps follow. Values agree up to rounding."""
        self.memory_format = order
        self.to(memory_format=order)

    def normalize(self, pixels: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """``(B, 3, H, W)`` RGB pixels 0..255 -> the network's input: weights' channel order, standardised, padding exactly 0."""
        x = self.standardize(pixels)
        for image, (height, width) in zip(x, image_sizes, strict=True):
            image[:, height:].zero_()
            image[:, :, width:].zero_()
        return x.contiguous(memory_format=self.memory_format)

    def standardize(self, pixels: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB pixels 0..255 without padding -> the weights' channel order, mean and deviation."""
        x = pixels.flip(1) if self.channel_order == "bgr" else pixels
        return (x - self.pixel_mean) / self.pixel_std

    def forward(self, images: Tensor) -> DensePredictions:
        """``(B, 3, H, W)`` normalised images, H and W multiples of 32 -> predictions at all locations."""
        levels = self.neck(self.backbone(images))
        cls_logits, ltrb, ctr_logits, tower_feats = self.head([levels[i] for i in LEVELS])
        mask_feats = self.mask_branch([levels[i] for i in range(self.finest_mask_level, LEVELS[2] + 1)])
        return DensePredictions(cls_logits, ltrb, ctr_logits, tower_feats, mask_feats, self.grid(levels))

    def mask_params(self, dense: DensePredictions, im_inds: Tensor, loc_inds: Tensor) -> Tensor:
        """Return the mask parameters ``(N, P)`` of chosen locations; both indices are ``(N,)`` int64."""
        return self.head.mask_params(dense.tower_feats, dense.locations.neighbours[loc_inds], im_inds)

    def mask_logits(self, dense: DensePredictions, samples: MaskSamples) -> Tensor:
        """Return the mask logits ``(N, h, w)`` at ``mask_out_stride`` of chosen locations."""
        return self._render(
            dense.mask_feats,
            self.mask_params(dense, samples.im_inds, samples.loc_inds),
            dense.locations.xy[samples.loc_inds],
            dense.locations.strides[samples.loc_inds],
            samples.counts,
        )

    def compile_mask_head(self) -> None:
        """Compile the mask head for any number of instances and any size; takes effect at its first call.

        Compiling more does not help: a step of R50 on two CPU cores took 4.20 s instead of 4.13 s with backbone, neck and towers compiled,
        and the mask branch does not compile in channels_last (the backward pass of its padding returns an unexpected memory order).
        """
        self._render = torch.compile(self.mask_head.__call__, dynamic=True)

    @staticmethod
    def grid(levels: dict[int, Tensor]) -> Locations:
        """Return the locations of the levels ``{level: (B, C, h, w)}``."""
        grids = [(levels[i].shape[-2], levels[i].shape[-1]) for i in LEVELS]
        return pyramid_locations(grids, [2**i for i in LEVELS], levels[LEVELS[0]].device)
