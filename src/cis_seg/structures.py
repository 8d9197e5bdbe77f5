"""The typed values that flow through the program, with their shapes.

Legend: B batch, G ground truths of an image, K locations of all levels, C classes, P generated
parameters, N mask samples or detections, H W padded input size in pixels, h w a level's grid.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypedDict

import torch
from torch import Tensor


class RLE(TypedDict):
    """COCO's compressed run-length code of one binary mask at ``size`` = [height, width]."""

    size: list[int]
    counts: bytes


def _moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    if isinstance(value, Tensor | Target):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_moved(item, device, non_blocking) for item in value)
    return value


class _Movable:
    """``to`` and ``pin_memory`` for dataclasses of tensors (and tuples of them)."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy with every tensor on ``device``."""
        moved = {f.name: _moved(getattr(self, f.name), device, non_blocking) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Target(_Movable):
    """The ground truth of one image, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32 xyxy, inside the image
    labels: Tensor  # (G,) int64, from 0, no background
    masks: Tensor | None = None  # (G, H_i, W_i) bool of the unpadded image; only for supervision=mask
    ignore_boxes: Tensor | None = None  # (R, 4) float32 xyxy, regions that teach nothing; None where there are none or none count

    def pin_memory(self) -> Target:
        """A copy in page-locked memory (called by the DataLoader)."""
        masks = None if self.masks is None else self.masks.pin_memory()
        regions = None if self.ignore_boxes is None else self.ignore_boxes.pin_memory()
        return Target(self.boxes.pin_memory(), self.labels.pin_memory(), masks, regions)


@dataclass(frozen=True)
class Batch(_Movable):
    """A collated batch. Pixels stay uint8 until they are on the device."""

    pixels: Tensor  # (B, 3, H, W) uint8 RGB, zero-padded right and bottom to a multiple of 32
    clean_pixels: Tensor  # the same before pixel-level augmentation; the colours the pairwise loss compares
    image_sizes: tuple[tuple[int, int], ...]  # B x (height, width) before padding
    original_sizes: tuple[tuple[int, int], ...]  # B x (height, width) of the file
    image_ids: tuple[int, ...]  # B
    positions: tuple[int, ...]  # B, place of each image in the endless training stream (0, 1, .. in evaluation)
    targets: tuple[Target, ...]  # length B

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H, W), the size of the network's input."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """A copy on ``device``; pixels that are shared stay shared, so they travel once."""
        moved = super().to(device, non_blocking)
        return replace(moved, clean_pixels=moved.pixels) if self.clean_pixels is self.pixels else moved

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory (called by the DataLoader)."""
        shared = self.clean_pixels is self.pixels
        pixels = self.pixels.pin_memory()
        return Batch(
            pixels,
            pixels if shared else self.clean_pixels.pin_memory(),
            self.image_sizes,
            self.original_sizes,
            self.image_ids,
            self.positions,
            tuple(target.pin_memory() for target in self.targets),
        )


@dataclass(frozen=True)
class Locations:
    """The grid points of all levels, P3 first; every image of a batch has the same ones."""

    xy: Tensor  # (K, 2) float32 in pixels of the network's input
    strides: Tensor  # (K,) float32, stride of each location's level
    level_inds: Tensor  # (K,) int64, 0 is the finest level
    neighbours: Tensor  # (K, 9) int64, the 3x3 locations around each, row by row; -1 outside its level


@dataclass(frozen=True)
class DensePredictions:
    """The network's output at every location of every level."""

    cls_logits: Tensor  # (B, K, C)
    ltrb: Tensor  # (B, K, 4) >= 0, distances in units of the stride
    ctr_logits: Tensor  # (B, K)
    tower_feats: Tensor  # (B, K, F) of the box tower; the controller turns those of chosen locations into mask parameters
    mask_feats: Tensor  # (B, M, H / mask_feat_stride, W / mask_feat_stride)
    locations: Locations


@dataclass(frozen=True)
class Assignment:
    """What every location is to learn."""

    labels: Tensor  # (B, K) int64 class, ``num_classes`` where background
    gt_inds: Tensor  # (B, K) int64 ground truth within its image, -1 where background
    ltrb: Tensor  # (B, K, 4) targets in units of the stride (0 where background)
    centerness: Tensor  # (B, K) in [0, 1] (0 where background)
    ignored: Tensor | None = None  # (B, K) bool, background that teaches nothing; None where no image has an ignore region


@dataclass(frozen=True)
class MaskSamples:
    """The positive locations whose masks are trained in this step."""

    im_inds: Tensor  # (N,) int64 image within the batch
    loc_inds: Tensor  # (N,) int64 location
    gt_inds: Tensor  # (N,) int64 ground truth within the image
    counts: tuple[int, ...]  # samples of each image, sum N; samples are grouped by image
    instances: tuple[int, ...]  # different ground truths among the samples of each image
    dropped: int = 0  # samples of the whole batch that the cap left out


@dataclass(frozen=True)
class Instances:
    """The detections of one image at its original size, best score first."""

    boxes: Tensor  # (N, 4) float32 xyxy in pixels of the original image
    scores: Tensor  # (N,) float32 in [0, 1]
    labels: Tensor  # (N,) int64 from 0
    masks: tuple[RLE, ...]  # length N; coded one after another, so no (N, H, W) stack ever exists
    image_size: tuple[int, int]  # (height, width) of the original image
