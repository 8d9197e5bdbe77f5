"""Colours at the mask stride: CIE Lab, the similarity of neighbours (BoxInst, section 3.3), and a colour model of each instance.

Legend: B batch, N instances, E neighbours, C colour bins, H W padded input, h w mask grid. Colours are RGB, 0..255, unless called Lab.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.grids import neighbour_offsets, shift
from cis_seg.ops.masks import sample_points
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


@torch.no_grad()
def color_evidence(mask_scores: Tensor, colors_lab: Tensor, box_masks: Tensor, surroundings: Tensor, im_inds: Tensor) -> Tensor:
    """Return ``log((f + 0.001) / (s + 0.001))`` for every pixel: its colour's share f in the mask and s in the surroundings of the box.

    Ground that a mask wrongly covers, as between the legs of a person, usually has a colour that lies outside the box too, where no
    pixel belongs to the instance.

    Args:
        mask_scores: ``(N, h, w)`` in [0, 1]; the pixels of the box count by their score.
        colors_lab: ``(B, 3, h, w)`` CIE Lab.
        box_masks: ``(N, h, w)`` filled boxes.
        surroundings: ``(N, h, w)`` filled boxes of the neighbourhood; their pixels outside ``box_masks`` count.
        im_inds: ``(N,)`` image of each mask.

    Returns:
        ``(N, h, w)`` float32, positive where the colour supports the instance.
    """
    scores = at_least_float32(mask_scores)
    bins = _bins(colors_lab)[im_inds].flatten(1)  # (N, h * w)
    inside = _shares(bins, scores * box_masks)
    outside = _shares(bins, (surroundings.bool() & ~box_masks.bool()).to(scores.dtype))
    return ((inside + RARE) / (outside + RARE)).log().gather(1, bins).view_as(scores)


def _bins(colors_lab: Tensor) -> Tensor:
    """Return the index of each pixel's colour among C, ``(B, h, w)``."""
    lightness, a, b = (colors_lab / BIN).unbind(dim=1)
    parts = (lightness, a + BINS[1] / 2, b + BINS[2] / 2)
    first, second, third = (part.long().clamp(0, count - 1) for part, count in zip(parts, BINS, strict=True))
    return (first * BINS[1] + second) * BINS[2] + third


def _shares(bins: Tensor, weights: Tensor) -> Tensor:
    """Return the share of each colour among the weighted pixels, ``(N, C)``."""
    counts = weights.new_zeros(len(bins), BINS[0] * BINS[1] * BINS[2]).scatter_add_(1, bins, weights.flatten(1))
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
