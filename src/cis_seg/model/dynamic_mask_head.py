"""The dynamic mask head: a tiny network per instance whose weights the controller emits (CondInst, section 3.1).

Legend: B images, N instances (grouped by image), M mask features, P parameters, h w the mask features' grid, c hidden channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cis_seg.errors import ConfigError
from cis_seg.ops.locations import level_locations
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.ops.precision import at_least_float32, without_autocast

#: relative coordinates are measured in the size of interest of the instance's level: 64 pixels at stride 8, twice that a level
SIZE_OF_INTEREST_IN_STRIDES = 8


class DynamicMaskHead:
    """``num_layers`` 1x1 convolutions of ``channels``, the last with one output, ReLU between.

    It owns no parameters; ``num_params`` is what the controller must emit: all weights layer by layer, then all biases.

    Args:
        in_channels: M, mask feature channels (the two relative coordinates come on top, in front).
        channels: hidden channels.
        num_layers: layers, at least 2.
        feat_stride: stride of the mask features in pixels.
        out_stride: stride of the logits in pixels; the head's output is enlarged by ``feat_stride / out_stride``.

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
        """Mask logits of N instances.

        The relative coordinates are affine in the pixel, (location - pixel) / size of interest, so they are not
        materialised per instance: their constant part moves into the first bias and what remains is one product over
        features that an image's instances share. Always in float32 (or float64
        where the inputs are that): a folded bias does not fit in bfloat16.

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
            x = _shared_layer(shared, weights[0], biases[0], counts)
            for weight, bias in zip(weights[1:], biases[1:], strict=True):
                x = torch.baddbmm(bias.unsqueeze(-1), weight, torch.relu_(x))  # (N, c_out, h * w); in place: one map a layer is kept
            logits = x.view(-1, 1, height, width)
            return aligned_bilinear(logits, self.factor).squeeze(1)

    def _unpack(self, mask_params: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        parts = mask_params.split(self.split_sizes, dim=1)
        layers = len(self.weight_shapes)
        weights = [p.unflatten(1, shape) for p, shape in zip(parts[:layers], self.weight_shapes, strict=True)]
        return weights, list(parts[layers:])


def _fold_coordinates(weight: Tensor, bias: Tensor, locations: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """``w . (location - pixel) / size + b`` as ``(-w / size) . pixel + (b + w . location / size)``.

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
