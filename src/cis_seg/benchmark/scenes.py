"""Seeded inputs of the benchmark: images with boxes of people, mask samples, mask logits.

Legend: B batch, G people per image, N mask samples, H W input, h w mask grid.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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
