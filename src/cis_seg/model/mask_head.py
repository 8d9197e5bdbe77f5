"""Masks of instances (CondInst): the mask branch, whose features all instances share, and the dynamic mask head of each instance.

Legend: B images, N instances (grouped by image), M mask features, P parameters, h w the mask features' grid, c hidden channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cis_seg.errors import ConfigError
from cis_seg.ops.grids import level_locations
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.ops.precision import at_least_float32, without_autocast

#: relative coordinates are divided by the size of interest of the instance's level, 64 px at stride 8 to 1024 px at stride 128 (AdelaiDet)
SIZE_OF_INTEREST_IN_STRIDES = 8


class DynamicMaskHead:
    """``num_layers`` 1x1 convolutions of ``channels``, the last with one output, ReLU between.

    It has no parameters of its own. The controller generates ``num_params`` per instance: the weights of all layers, then all biases.

    Args:
        in_channels: M, mask feature channels, without the two relative coordinates.
        channels: hidden channels.
        num_layers: layers, at least 2.
        feat_stride: stride of the mask features in pixels.
        out_stride: stride of the logits in pixels; the output is upsampled by ``feat_stride / out_stride``.

    Raises:
        ConfigError: ``out_stride`` does not divide ``feat_stride``.
    """

    def __init__(self, *, in_channels: int = 16, channels: int = 8, num_layers: int = 3, feat_stride: int = 8, out_stride: int = 4) -> None:
        if feat_stride % out_stride:
            expected = f"a divisor of {feat_stride}, the stride of the mask features"
            raise ConfigError("masks cannot be enlarged to that stride", where="model.mask_out_stride", expected=expected, found=out_stride)
        ins = [in_channels + 2] + [channels] * (num_layers - 1)
        outs = [channels] * (num_layers - 1) + [1]
        self.weight_shapes = list(zip(outs, ins, strict=True))
        self.split_sizes = [o * i for o, i in self.weight_shapes] + outs
        self.num_params = sum(self.split_sizes)
        self.feat_stride = feat_stride
        self.factor = feat_stride // out_stride

    def __call__(self, mask_feats: Tensor, mask_params: Tensor, locations: Tensor, strides: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the mask logits of N instances.

        The input of an instance's head is its relative coordinates, (location - pixel) / size of interest, followed by the mask features
        (CondInst, section 3.1). The coordinates are affine in the pixel, so they are not materialised per instance: their constant part is
        folded into the first bias, and the first layer becomes one product with features that all instances of an image share. Always
        computed in float32 (float64 for float64 inputs), since bf16 cannot hold a folded bias.

        Args:
            mask_feats: ``(B, M, h, w)``.
            mask_params: ``(N, P)``, instances of image 0 first, then image 1, ...
            locations: ``(N, 2)`` xy in pixels.
            strides: ``(N,)`` stride of each instance's level.
            counts: instances of each image, sum N.

        Returns:
            ``(N, h * factor, w * factor)`` float32 logits at ``out_stride``.
        """
        batch, _, height, width = mask_feats.shape
        with without_autocast(mask_feats.device):
            weights, biases = self._unpack(at_least_float32(mask_params))
            weights[0], biases[0] = _fold_coordinates(weights[0], biases[0], locations, strides * SIZE_OF_INTEREST_IN_STRIDES)
            pixels = level_locations(height, width, self.feat_stride, mask_feats.device).t()  # (2, h * w)
            shared = torch.cat([pixels.expand(batch, -1, -1), at_least_float32(mask_feats).flatten(2)], dim=1)  # (B, 2 + M, h * w)
            x = _shared_layer(shared, weights[0], biases[0], counts)  # (N, c, h * w)
            for weight, bias in zip(weights[1:], biases[1:], strict=True):
                x = torch.baddbmm(bias.unsqueeze(-1), weight, torch.relu_(x))  # (N, c_out, h * w); in place, one map per layer is stored
            logits = x.view(-1, 1, height, width)
            # the losses need a finer mask than stride 8: upsample by 2 to stride 4, aligned with the locations (BoxInst)
            return aligned_bilinear(logits, self.factor).squeeze(1)

    def _unpack(self, mask_params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        # (18 * 8) + (8 * 8) + (8 * 1) weights, then 8 + 8 + 1 biases: 233 for BoxInst; 169 with CondInst's 8 mask features
        parts = mask_params.split(self.split_sizes, dim=1)
        layers = len(self.weight_shapes)
        weights = [p.unflatten(1, shape) for p, shape in zip(parts[:layers], self.weight_shapes, strict=True)]
        return weights, list(parts[layers:])


def _fold_coordinates(weight: Tensor, bias: Tensor, locations: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Rewrite ``w . (location - pixel) / size + b`` as ``(-w / size) . pixel + (b + w . location / size)``.

    weight ``(N, c, 2 + M)``, bias ``(N, c)``, locations ``(N, 2)``, sizes ``(N,)``.
    """
    scaled = weight[:, :, :2] / sizes.view(-1, 1, 1)
    folded_bias = bias + (scaled * locations.unsqueeze(1)).sum(dim=2)
    return torch.cat([-scaled, weight[:, :, 2:]], dim=2), folded_bias


def _shared_layer(shared: Tensor, weight: Tensor, bias: Tensor, counts: Sequence[int]) -> Tensor:
    """One matrix product per image: shared ``(B, I, L)``, weight ``(N, c, I)``, bias ``(N, c)`` -> ``(N, c, L)``."""
    channels, length = weight.shape[1], shared.shape[2]
    outputs = [
        torch.addmm(b.reshape(-1, 1), w.flatten(0, 1), features).view(-1, channels, length)
        for features, w, b in zip(shared, weight.split(list(counts)), bias.split(list(counts)), strict=True)
    ]
    return torch.cat(outputs)


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
