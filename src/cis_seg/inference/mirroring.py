"""Masks averaged with those of the mirrored image.

Legend: B batch, K locations of all levels, n detections of an image, H W padded input, h w mask grid.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cis_seg.model.condinst import CondInst
from cis_seg.structures import Batch, DensePredictions, Locations, MaskSamples


def predict_mirrored(model: CondInst, batch: Batch) -> DensePredictions:
    """Return the predictions for the images of ``batch`` mirrored left to right; their padding stays on the right."""
    mirrored = batch.pixels.clone()
    for image, (_, width) in zip(mirrored, batch.image_sizes, strict=True):
        image[:, :, :width] = image[:, :, :width].flip(2)
    dense: DensePredictions = model(model.normalize(mirrored, batch.image_sizes))
    return dense


def averaged_mask_logits(
    model: CondInst, dense: DensePredictions, mirrored: DensePredictions | None, samples: MaskSamples, batch: Batch, index: int
) -> Tensor:
    """Return the mask logits ``(n, h, w)`` of ``samples`` of image ``index``, averaged with the mirrored image's unless that is None."""
    mask_logits = model.mask_logits(dense, samples)
    if mirrored is None:
        return mask_logits
    stride = batch.padded_size[0] // mask_logits.shape[-2]
    return average_with_mirrored(model, mirrored, samples, mask_logits, width=batch.image_sizes[index][1], stride=stride)


def average_with_mirrored(
    model: CondInst, mirrored: DensePredictions, samples: MaskSamples, mask_logits: Tensor, *, width: int, stride: int
) -> Tensor:
    """Return logits of the mean of each mask's scores and those of the same location in the mirrored image, ``(n, h, w)`` float32.

    The detections, and so boxes and scores, are those of the image as it is: detections of both images, merged by NMS, gained nothing.

    Args:
        model: the network that made ``mirrored``.
        mirrored: result of ``predict_mirrored``.
        samples: the locations of the n detections of one image.
        mask_logits: ``(n, h, w)``, their masks in the image as it is.
        width: the image's, without padding, in pixels of the input.
        stride: of the mask grid in pixels.
    """
    there = replace(samples, loc_inds=mirrored_locations(mirrored.locations, samples.loc_inds, width))
    scores = model.mask_logits(mirrored, there).float().sigmoid()
    return ((mask_logits.float().sigmoid() + turned_back(scores, width, stride)) / 2).logit(eps=1e-6)


def mirrored_locations(locations: Locations, loc_inds: Tensor, width: int) -> Tensor:
    """Return the location of the same level nearest to the mirror image of each of ``loc_inds (n,)``, ``(n,)`` int64.

    If the stride divides ``width``, it is the mirror image itself.
    """
    wanted = locations.xy[loc_inds]
    wanted = torch.stack([width - wanted[:, 0], wanted[:, 1]], dim=1)
    other_level = locations.level_inds[:, None] != locations.level_inds[loc_inds]
    return torch.cdist(locations.xy, wanted).masked_fill(other_level, torch.inf).argmin(dim=0)


def turned_back(scores: Tensor, width: int, stride: int) -> Tensor:
    """Return the mask scores ``(n, h, w)`` of a mirrored image on the grid of the image as it is.

    Cell i of a row is pixel ``p = stride // 2 + stride * i``, whose mirror image is pixel ``width - 1 - p``. That lies between two cells
    of the mirrored image, since the grid is not symmetric: the result is linear between them, as in ``aligned_bilinear``.
    """
    cells = scores.shape[-1]
    places = (width - 1 - 2 * (stride // 2)) / stride - torch.arange(cells, device=scores.device)
    left = places.floor()
    first, second = (x.long().clamp(0, cells - 1) for x in (left, left + 1))
    return torch.lerp(scores[..., first], scores[..., second], (places - left).to(scores))
