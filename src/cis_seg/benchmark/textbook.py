"""The baseline of the benchmark, straightforward forms of the same formulas, and the seeded inputs that both sides receive.

All neighbours of all pixels of all instances are unfolded, boxes are selected at full size, each instance has its own copy of the features
and similarities, and colours are converted by numpy on the CPU, one image at a time.

Legend: B batch, G people per image, N instances, E neighbours, C channels, H W padded input, h w mask grid, P generated parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cis_seg.ops.grids import level_locations
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.structures import Batch, MaskSamples, Target


def people_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return ``(G, 4)`` upright boxes inside an image of ``size`` (height, width); larger crowds have smaller people."""
    height, width = size
    heights = height * (0.12 + 0.5 * torch.rand(count, generator=generator)) * min(1.0, (25 / max(count, 1)) ** 0.5)
    widths = heights * (0.3 + 0.3 * torch.rand(count, generator=generator))
    x0 = torch.rand(count, generator=generator) * (width - 1 - widths)
    y0 = torch.rand(count, generator=generator) * (height - 1 - heights)
    return torch.stack([x0, y0, x0 + widths, y0 + heights], dim=1)


def scene(size: tuple[int, int], people: int, *, batch: int = 1, seed: int = 0, device: str = "cpu") -> Batch:
    """Return ``batch`` images of smooth colours and faint noise with ``people`` boxes each; ``size`` is a multiple of 32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 3, 4, generator=generator) * 255
    pixels = F.interpolate(coarse, size=size, mode="bilinear") + 2 * torch.randn(batch, 3, *size, generator=generator)
    targets = []
    for image in pixels:
        boxes = people_boxes(people, size, generator)
        for x0, y0, x1, y1 in boxes.int().tolist():
            image[:, y0:y1, x0:x1] = 0.5 * image[:, y0:y1, x0:x1] + 127 * torch.rand(3, 1, 1, generator=generator)
        targets.append(Target(boxes, torch.zeros(people, dtype=torch.int64)))
    whole = pixels.clamp(0, 255).to(torch.uint8)
    numbers = tuple(range(batch))
    return Batch(whole, whole, (size,) * batch, (size,) * batch, numbers, numbers, tuple(targets)).to(device)


def samples_of(batch: Batch, per_image: int) -> MaskSamples:
    """Return ``per_image`` mask samples per image, spread evenly over its people; locations are unused."""
    people = len(batch.targets[0].boxes)
    images = len(batch.targets)
    gt_inds = torch.arange(per_image, device=batch.pixels.device).mul(people).div(per_image, rounding_mode="floor").repeat(images)
    im_inds = torch.arange(images, device=batch.pixels.device).repeat_interleave(per_image)
    return MaskSamples(im_inds, torch.zeros_like(im_inds), gt_inds, (per_image,) * images, (min(people, per_image),) * images)


def logits_of(samples: MaskSamples, grid: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Return ``(N, h, w)`` smooth logits with noise, like those of a half-trained network."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(len(samples.im_inds), 1, 6, 8, generator=generator)
    logits = 3 * F.interpolate(coarse, size=grid, mode="bilinear")[:, 0] + 0.5 * torch.randn(len(coarse), *grid, generator=generator)
    return logits.to(samples.im_inds.device)


def unfolded_neighbours(x: Tensor, size: int = 3, dilation: int = 2) -> Tensor:
    """``(N, C, h, w)`` -> ``(N, C, E, h, w)``, zeros outside the map."""
    n, channels, h, w = x.shape
    padding = dilation * (size // 2)
    cells = F.unfold(x, size, dilation=dilation, padding=padding).view(n, channels, size * size, h, w)
    centre = size * size // 2
    return torch.cat([cells[:, :, :centre], cells[:, :, centre + 1 :]], dim=2)


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert ``(h, w, 3)`` uint8 sRGB to CIE Lab (D65, 2 degrees) in float64, like scikit-image."""
    share = rgb / 255.0
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    ratio = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.moveaxis(np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116), 2, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)


def color_similarity(image: Tensor, valid: Tensor) -> Tensor:
    """One image ``(3, h, w)`` of RGB 0..255 and its validity ``(h, w)`` -> ``(E, h, w)``."""
    rgb = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    lab = torch.from_numpy(rgb_to_lab(rgb)).to(image.device, torch.float32).permute(2, 0, 1)[None]
    distance = (lab[:, :, None] - unfolded_neighbours(lab)).norm(dim=1)
    return (torch.exp(-0.5 * distance) * unfolded_neighbours(valid[None, None].float())[:, 0])[0]


def box_bitmaps(boxes: Tensor, padded_size: tuple[int, int], stride: int) -> Tensor:
    """``(N, 4)`` -> ``(N, h, w)``: boxes filled at full size, then sampled every ``stride`` pixels."""
    full = torch.zeros(len(boxes), *padded_size, device=boxes.device)
    for bitmap, (x0, y0, x1, y1) in zip(full, boxes.tolist(), strict=True):
        bitmap[int(y0) : int(y1 + 1), int(x0) : int(x1 + 1)] = 1
    return full[:, stride // 2 :: stride, stride // 2 :: stride]


def pairwise_loss(mask_logits: Tensor, bitmaps: Tensor, similarity: Tensor, color_thresh: float = 0.3) -> Tensor:
    """``mask_logits`` and ``bitmaps`` ``(N, h, w)``, ``similarity`` ``(N, E, h, w)``: one per instance."""
    foreground, background = F.logsigmoid(mask_logits), F.logsigmoid(-mask_logits)
    both = foreground[:, None] + unfolded_neighbours(foreground[:, None])[:, 0]  # (N, E, h, w)
    neither = background[:, None] + unfolded_neighbours(background[:, None])[:, 0]
    weights = (similarity >= color_thresh).float() * bitmaps[:, None]
    larger = torch.maximum(both, neither)
    log_same = larger + torch.log(torch.exp(both - larger) + torch.exp(neither - larger))  # faster here than torch.logaddexp
    return (-log_same * weights).sum() / weights.sum().clamp(min=1)


def projection_loss(mask_scores: Tensor, bitmaps: Tensor) -> Tensor:
    """Dice of the maxima over the columns and over the rows, both ``(N, h, w)``."""
    total = mask_scores.new_zeros(())
    for axis in (1, 2):
        scores, target = mask_scores.max(dim=axis).values, bitmaps.max(dim=axis).values
        inside = (scores * target).sum(dim=1)
        total = total + (1 - 2 * inside / ((scores**2).sum(dim=1) + (target**2).sum(dim=1) + 1e-5)).mean()
    return total


def overlap_loss(mask_scores: Tensor, gt_inds: Tensor, noise: Tensor) -> Tensor:
    """Eq. 2 for one image, pair by pair; the selected mask of an instance has the least ``noise`` ``(N,)``."""
    degrees = []
    for instance in gt_inds.unique().tolist():
        own = gt_inds == instance
        selected = mask_scores[noise.masked_fill(~own, torch.inf).argmin()]
        others = mask_scores[~own]
        degrees.append((others * selected).sum(dim=(1, 2)) / (others + selected).sum(dim=(1, 2)))
    return torch.cat(degrees).mean()


def dynamic_mask_head(
    mask_feats: Tensor, mask_params: Tensor, locations: Tensor, strides: Tensor, im_inds: Tensor, channels: int = 8
) -> Tensor:
    """``(B, C, h, w)`` features and ``(N, P)`` parameters -> ``(N, 2 h, 2 w)``: three grouped 1x1 convolutions."""
    count, (features, h, w) = len(mask_params), mask_feats.shape[1:]
    pixels = level_locations(h, w, 8, mask_feats.device)
    relative = (locations[:, None] - pixels) / (8 * strides)[:, None, None]  # (N, h * w, 2)
    x = torch.cat([relative.transpose(1, 2).view(count, 2, h, w), mask_feats[im_inds]], dim=1).view(1, -1, h, w)
    shapes = [(channels, features + 2), (channels, channels), (1, channels)]
    weights = mask_params.split([o * i for o, i in shapes] + [o for o, _ in shapes], dim=1)
    for layer, (out, inputs) in enumerate(shapes):
        kernel = weights[layer].reshape(count * out, inputs, 1, 1)
        x = F.conv2d(x, kernel, weights[3 + layer].reshape(-1), groups=count)
        x = F.relu(x) if layer < 2 else x
    return aligned_bilinear(x.view(count, 1, h, w), 2).squeeze(1)


def pasted_masks(mask_logits: Tensor, size: tuple[int, int], original: tuple[int, int], stride: int) -> Sequence[dict[str, object]]:
    """``(N, h, w)`` -> run-length codes via one dense ``(N, H, W)`` stack of scores at the original size."""
    from pycocotools import mask as coco_mask

    scores = aligned_bilinear(mask_logits.sigmoid()[:, None], stride)[:, :, : size[0], : size[1]]
    masks = F.interpolate(scores, size=original, mode="bilinear", align_corners=False)[:, 0] > 0.5
    codes: list[dict[str, object]] = coco_mask.encode(np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0)))
    return codes
