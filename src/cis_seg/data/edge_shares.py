"""How telling colour is: the share of neighbouring pixels that look alike, inside people and across their outlines.

The pairwise loss pulls two pixels together where their colours are alike. It helps if that happens inside a person and in the
background, and misleads where it happens across an outline. Legend: H W image, h w mask grid, E neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cis_seg.ops.color import color_similarity, pooled_colors
from cis_seg.ops.neighbours import gather_neighbours

COLOR_THRESH = 0.3  # the training's threshold on the similarity: a Lab distance of 2.4


@dataclass(frozen=True)
class EdgeShares:
    """Shares in [0, 1] of the edges of one kind whose colour similarity is ``COLOR_THRESH`` or more; NaN without such edges."""

    inside: float  # from a person to the same person
    person_person: float  # to another person
    person_background: float  # to what is nobody's, either direction
    background: float  # from what is nobody's inside some person's visible box to what is nobody's anywhere


@dataclass(frozen=True)
class LabelledImage:
    """One image with its truth, as the measurement needs it."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    owner: NDArray[np.int64]  # (H, W) 0 nobody's, n the n-th person's, -1 unknown (edges to it do not count)
    in_box: NDArray[np.bool_]  # (H, W) inside the visible box of a person


def edge_shares(images: Iterable[LabelledImage], *, stride: int, dilation: int) -> EdgeShares:
    """Shares over all edges of all images, on the grid and with the colours that the training uses.

    Args:
        images: the images to measure.
        stride: the mask stride; colours are its mean colours, owners are sampled at ``[stride // 2 :: stride]`` like the box masks.
        dilation: distance of the eight neighbours on that grid.
    """
    alike, total = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    for labelled in images:
        similar, kinds = _edges(labelled, stride, dilation)
        for kind in range(4):
            chosen = kinds == kind
            total[kind] += chosen.sum()
            alike[kind] += (chosen & similar).sum()
    shares = alike.double() / torch.where(total > 0, total, torch.nan)
    return EdgeShares(*(float(share) for share in shares))


def _edges(labelled: LabelledImage, stride: int, dilation: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(E, h, w) whether the colours are alike, and (E, h, w) the kind of edge: index of EdgeShares' field, -1 for none of them."""
    height, width = (side // stride * stride for side in labelled.owner.shape)
    pixels = torch.from_numpy(np.ascontiguousarray(labelled.image[:height, :width])).permute(2, 0, 1)[None]
    owner = torch.from_numpy(np.ascontiguousarray(labelled.owner[stride // 2 : height : stride, stride // 2 : width : stride]))
    in_box = torch.from_numpy(np.ascontiguousarray(labelled.in_box[stride // 2 : height : stride, stride // 2 : width : stride]))
    colors = pooled_colors(pixels, stride)
    similar = color_similarity(colors, torch.ones_like(owner)[None], dilation=dilation)[0] >= COLOR_THRESH
    # owners are shifted with + 1, so that a neighbour outside the map (0 after the shift) reads as unknown
    there = gather_neighbours((owner + 1)[None, None], 3, dilation)[0, :, 0] - 1
    here = owner.expand_as(there)
    kinds = torch.full_like(there, -1)
    kinds[(here > 0) & (there > 0)] = 1
    kinds[(here > 0) & (there == here)] = 0
    kinds[((here > 0) & (there == 0)) | ((here == 0) & (there > 0))] = 2
    kinds[(here == 0) & (there == 0) & in_box] = 3
    return similar, kinds
