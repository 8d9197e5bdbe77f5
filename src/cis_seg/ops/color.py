"""Colours at the mask stride: CIE Lab, the similarity of neighbours (BoxInst, section 3.3), and a colour model of each instance.

Legend: B batch, N instances, n instances of a group, E neighbours, C colour bins, H W padded input, h w mask grid, a b window.
Colours are RGB, 0..255, unless called Lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.grids import neighbour_offsets, shift
from cis_seg.ops.masks import Windows, sample_points
from cis_seg.ops.precision import at_least_float32

# linear sRGB -> CIE XYZ (IEC 61966-2-1), and the white of D65 for the 2 degree observer
_XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_D65_WHITE = (0.95047, 1.0, 1.08883)
#: side of a bin in CIE Lab, about three times a just noticeable difference; L has 13 of them, a and b 32 each
BIN = 8.0
BINS = (13, 32, 32)
#: added to the shares of a colour, so that a colour that hardly occurs is evidence for neither
RARE = 1e-3


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB to CIE Lab (D65, 2 degrees).

    There is no matrix product because autocast would run it in bf16, far too coarse for the colour threshold.

    Args:
        images: ``(..., 3, H, W)`` RGB 0..255, any type.

    Returns:
        ``(..., 3, H, W)`` L 0..100, a and b about -128..127; float32 (float64 if given that).
    """
    rgb = at_least_float32(images) / 255
    # both branches of `where` get a gradient, so the base of the power stays away from 0
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    r, g, b = linear.unbind(-3)
    x, y, z = (_lab_curve((row[0] * r + row[1] * g + row[2] * b) / white) for row, white in zip(_XYZ_FROM_RGB, _D65_WHITE, strict=True))
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def _lab_curve(ratio: Tensor) -> Tensor:
    """CIE's cube root, linear near black."""
    return torch.where(ratio > 0.008856, ratio.clamp(min=0.008856) ** (1 / 3), 7.787 * ratio + 16 / 116)


def color_similarity(images: Tensor, valid: Tensor, *, size: int = 3, dilation: int = 2) -> Tensor:
    """Return ``exp(-|Lab(p) - Lab(q)| / 2)`` for every pixel p and neighbour q (BoxInst, section 3.3), times the validity of q.

    An edge has the same length from both ends, so half of the neighbours are computed and the others are shifted copies.

    Args:
        images: ``(B, 3, h, w)`` RGB 0..255 at the mask stride.
        valid: ``(B, h, w)`` 1 or True for pixels that others may be compared with.
        size: side of the neighbourhood, odd.
        dilation: distance of the neighbours; BoxInst compares every second pixel.

    Returns:
        ``(B, E, h, w)`` in [0, 1], E = size * size - 1 in row-major order without the centre; 0 for neighbours outside the map.
    """
    lab = rgb_to_lab(images)
    valid = valid.to(lab.dtype)
    ahead, behind = [], []
    offsets = neighbour_offsets(size, dilation)
    for dy, dx in offsets[len(offsets) // 2 :]:
        alike = torch.exp(-0.5 * _length(lab - shift(lab, dy, dx)))  # (B, h, w)
        ahead.append(alike * shift(valid, dy, dx))
        behind.append(shift(alike, -dy, -dx) * shift(valid, -dy, -dx))
    return torch.stack([*reversed(behind), *ahead], dim=1)


def _length(vectors: Tensor) -> Tensor:
    """Return the Euclidean length over dimension 1, with a gradient of 0 at 0; ``vector_norm`` is 100 times slower on this axis."""
    return vectors.square().sum(dim=1).clamp(min=torch.finfo(vectors.dtype).tiny).sqrt()


def pooled_colors(pixels: Tensor, stride: int, *, truncate: bool = True) -> Tensor:
    """Return the mean colour of every ``stride`` x ``stride`` square.

    Args:
        pixels: ``(B, 3, H, W)`` uint8 RGB, padded with 0; H and W multiples of ``stride``.
        stride: the mask stride.
        truncate: truncate the means to whole numbers, as the reference does by a cast to uint8 (changes a similarity by about 0.01);
            False keeps them exact.

    Returns:
        ``(B, 3, H / stride, W / stride)`` float32, 0..255.
    """
    means = F.avg_pool2d(pixels.float(), stride)
    return means.floor() if truncate else means


def valid_mask(
    image_sizes: Sequence[tuple[int, int]],
    original_sizes: Sequence[tuple[int, int]],
    padded_size: tuple[int, int],
    stride: int,
    device: torch.device | str,
    bottom_margin: float = 10,
) -> Tensor:
    """Return the pixels that colours may be compared with: neither in the padding nor in the bottom margin.

    COCO's annotations often end a few rows above the bottom of the image, so AdelaiDet excludes its last 10 rows
    (``BOTTOM_PIXELS_REMOVED``).

    Args:
        image_sizes: B x (height, width) before padding.
        original_sizes: B x (height, width) of the file.
        padded_size: (H, W) of the network's input.
        stride: the mask stride; the full-size mask is sampled at ``[stride // 2 :: stride]`` like the box masks.
        device: device of the result.
        bottom_margin: excluded rows in pixels of the file; ``int(margin * resized height / original height)`` rows of the input.

    Returns:
        ``(B, H / stride, W / stride)`` bool.
    """
    ends = [
        (height - int(bottom_margin * height / original[0]), width)
        for (height, width), original in zip(image_sizes, original_sizes, strict=True)
    ]
    limits = torch.tensor(ends, device=device).reshape(-1, 2)
    rows = sample_points(padded_size[0] // stride, stride, device) < limits[:, :1]  # (B, h)
    columns = sample_points(padded_size[1] // stride, stride, device) < limits[:, 1:]  # (B, w)
    return rows[:, :, None] & columns[:, None, :]


@dataclass(frozen=True)
class ColorModel:
    """Evidence of colours: ``weight * (log((f + 0.001) / (s + 0.001)) - margin)``, with a colour's shares f in the mask, s around the box.

    Ground that a mask wrongly covers, as between the legs of a person, usually has a colour that lies outside the box too, where no
    pixel belongs to the instance.
    """

    bins: Tensor  # (B, h, w) int64, the colour of each pixel
    im_inds: Tensor  # (N,) image of each instance
    around: Tensor  # (N, C) shares of the colours around each box
    weight: float = 1.0
    margin: float = 0.0

    @classmethod
    def of(
        cls, colors_lab: Tensor, box_masks: Tensor, surroundings: Tensor, im_inds: Tensor, *, weight: float = 1.0, margin: float = 0.0
    ) -> Self:
        """Return the model of N instances.

        Args:
            colors_lab: ``(B, 3, h, w)`` CIE Lab.
            box_masks: ``(N, h, w)`` bool, filled boxes.
            surroundings: ``(N, h, w)`` bool, filled boxes of the neighbourhood; their pixels outside ``box_masks`` count.
            im_inds: ``(N,)`` image of each instance.
            weight: factor of the evidence.
            margin: log ratio from which a colour supports the instance.
        """
        bins = _bins(colors_lab)
        outside = (surroundings & ~box_masks).to(torch.float32)
        counts, total = _counts(bins.flatten(1)[im_inds], outside.flatten(1))
        return cls(bins, im_inds, counts / total, weight, margin)

    def __call__(self, scores: Tensor, windows: Windows) -> Tensor:
        """Return the evidence ``(n, a, b)``, float32, in windows around boxes, positive where the colour supports the instance.

        Args:
            scores: ``(n, a, b)`` in [0, 1], 0 outside the box; pixels count by their score.
            windows: of these scores.
        """
        bins = windows.cut(self.bins, self.im_inds[windows.chosen]).flatten(1)
        counts, total = _counts(bins, at_least_float32(scores).flatten(1))
        inside, around = counts.gather(1, bins) / total, self.around[windows.chosen].gather(1, bins)
        return self.weight * (((inside + RARE) / (around + RARE)).log().view_as(scores) - self.margin)


def _bins(colors_lab: Tensor) -> Tensor:
    """Return the index of each pixel's colour among C, ``(B, h, w)``."""
    lightness, a, b = (colors_lab / BIN).unbind(dim=1)
    parts = (lightness, a + BINS[1] / 2, b + BINS[2] / 2)
    first, second, third = (part.long().clamp(0, count - 1) for part, count in zip(parts, BINS, strict=True))
    return (first * BINS[1] + second) * BINS[2] + third


def _counts(bins: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each colour ``(N, C)``, and that of all, at least 1, ``(N, 1)``; for pixels ``(N, L)``."""
    counts = weights.new_zeros(len(bins), BINS[0] * BINS[1] * BINS[2]).scatter_add_(1, bins, weights)
    return counts, weights.sum(dim=1, keepdim=True).clamp(min=1)
