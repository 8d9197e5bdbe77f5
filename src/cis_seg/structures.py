"""The typed values that pass between the parts of the program.

Legend: B batch, G ground truths of an image, K locations of all levels, C classes, P mask parameters,
N mask samples or detections, H W padded input size in pixels, h w mask grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypedDict

import torch
from torch import Tensor


class RLE(TypedDict):
    """COCO's compressed run-length code of one binary mask at ``size`` = [height, width]."""

    size: list[int]
    counts: bytes


class _Tensors:
    """``to`` and ``pin_memory`` for dataclasses of tensors and tuples of them."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return a copy with every tensor on ``device``."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory; called by the DataLoader."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        done: dict[int, Tensor] = {}  # a tensor that two fields share is copied once and stays shared

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in done:
                done[id(tensor)] = change(tensor)
            return done[id(tensor)]

        def mapped(value: Any) -> Any:
            if isinstance(value, Tensor):
                return once(value)
            if isinstance(value, _Tensors):
                return value._mapped(once)
            return tuple(map(mapped, value)) if isinstance(value, tuple) else value

        return replace(self, **{field.name: mapped(getattr(self, field.name)) for field in fields(self)})  # type: ignore[arg-type, type-var]


@dataclass(frozen=True)
class Target(_Tensors):
    """The ground truth of one image, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32 xyxy, inside the image
    labels: Tensor  # (G,) int64, from 0, no background
    masks: Tensor | None = None  # (G, H_i, W_i) bool of the unpadded image; None with supervision=box
    ignore_boxes: Tensor | None = None  # (R, 4) float32 xyxy, regions excluded from the loss; None without any
    mask_scores: Tensor | None = None  # (G,) float32 in [0, 1]: 1 a true mask, 0 no mask; None if every mask is true


@dataclass(frozen=True)
class Batch(_Tensors):
    """A collated batch. Pixels stay uint8 until they are on the device."""

    pixels: Tensor  # (B, 3, H, W) uint8 RGB, zero-padded right and bottom to a multiple of 32
    clean_pixels: Tensor  # the same before pixel-level augmentation; the colours that the pairwise loss compares
    image_sizes: tuple[tuple[int, int], ...]  # B x (height, width) before padding
    original_sizes: tuple[tuple[int, int], ...]  # B x (height, width) of the file
    image_ids: tuple[int, ...]  # B
    positions: tuple[int, ...]  # B, index of each image in the endless training stream (0, 1, ... in evaluation)
    targets: tuple[Target, ...]  # B

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H, W), the size of the network's input."""
        return self.pixels.shape[-2], self.pixels.shape[-1]


@dataclass(frozen=True)
class Locations:
    """The grid points of all levels, finest level first. Every image of a batch has the same ones."""

    xy: Tensor  # (K, 2) float32 in pixels of the network's input
    strides: Tensor  # (K,) float32, stride of each location's level
    level_inds: Tensor  # (K,) int64, 0 is the finest level
    neighbours: Tensor  # (K, 9) int64, the 3x3 locations around each, row by row; -1 outside its level


@dataclass(frozen=True)
class DensePredictions:
    """The network's output at every location of every level."""

    cls_logits: Tensor  # (B, K, C)
    ltrb: Tensor  # (B, K, 4) >= 0, distances to the box's sides in units of the stride
    ctr_logits: Tensor  # (B, K)
    tower_feats: Tensor  # (B, K, F) of the box tower; the controller turns those of chosen locations into mask parameters
    mask_feats: Tensor  # (B, M, H / mask_feat_stride, W / mask_feat_stride)
    locations: Locations


@dataclass(frozen=True)
class Assignment:
    """The training target of every location."""

    labels: Tensor  # (B, K) int64 class, ``num_classes`` for background
    gt_inds: Tensor  # (B, K) int64 ground truth within its image, -1 for background
    ltrb: Tensor  # (B, K, 4) in units of the stride, 0 for background
    centerness: Tensor  # (B, K) in [0, 1], 0 for background
    ignored: Tensor | None = None  # (B, K) bool, background excluded from the loss; None if no image has an ignore region


@dataclass(frozen=True)
class MaskSamples:
    """The positive locations whose masks are trained in this step, grouped by image."""

    im_inds: Tensor  # (N,) int64 image within the batch
    loc_inds: Tensor  # (N,) int64 location
    gt_inds: Tensor  # (N,) int64 ground truth within the image
    counts: tuple[int, ...]  # samples of each image, sum N
    instances: tuple[int, ...]  # different ground truths among the samples of each image
    dropped: int = 0  # samples of the whole batch that the cap removed


@dataclass(frozen=True)
class PseudoMasks:
    """A teacher's masks of the T ground truths of a batch, image by image."""

    masks: Tensor  # (T, h, w) float32 in [0, 1], the targets; 0 outside the box
    trusted: Tensor  # (T, h, w) bool, the pixels that are compared with them
    quality: Tensor  # (T,) float32 in [0, 1]; 0 leaves the instance out
    starts: tuple[int, ...]  # B, index of each image's first instance

    def rows(self, samples: MaskSamples) -> Tensor:
        """Return the index ``(N,)`` of each sample's instance."""
        return self.quality.new_tensor(self.starts, dtype=torch.int64)[samples.im_inds] + samples.gt_inds


@dataclass(frozen=True)
class Instances:
    """The detections of one image at its original size, best score first."""

    boxes: Tensor  # (N, 4) float32 xyxy in pixels of the original image
    scores: Tensor  # (N,) float32 in [0, 1]
    labels: Tensor  # (N,) int64 from 0
    masks: tuple[RLE, ...]  # N; encoded one by one, so that no (N, H, W) stack ever exists
    image_size: tuple[int, int]  # (height, width) of the original image
