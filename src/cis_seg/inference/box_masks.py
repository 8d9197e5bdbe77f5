"""Predict the masks of the given boxes of one image.

Legend: G boxes of one image, n of a group, H W the image's size in pixels, h w mask grid.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box, inside
from cis_seg.config.schema import MaskConfig
from cis_seg.data.batches import collate
from cis_seg.data.records import Sample
from cis_seg.data.transforms import TestTransform
from cis_seg.inference.given_boxes import ANY_CLASS, BoxFits, fit_given_boxes
from cis_seg.inference.mirroring import averaged_mask_logits, predict_mirrored
from cis_seg.inference.postprocess import masks_in_boxes
from cis_seg.inference.predictor import Trained
from cis_seg.ops.masks import MaskGrid, resampled
from cis_seg.structures import RLE, Batch, DensePredictions, MaskSamples

log = logging.getLogger(__name__)

BOXES_AT_ONCE = 64  # the mask head needs about 10 MB per box of a large image


@dataclass(frozen=True)
class BoxMask:
    """The mask of one given box."""

    mask: RLE  # at the image's size; empty if no part of the box with an area is inside the image
    label: int  # the given class, or for ``ANY_CLASS`` the best one of the selected location
    confidence: float  # agreement of the network's own detection with the box, 0 to 1, four digits (``fit_given_boxes``)


@dataclass(frozen=True)
class _View:
    """The image at one size, and the network's predictions for it."""

    batch: Batch
    dense: DensePredictions
    mirrored: DensePredictions | None
    boxes: Tensor  # (G, 4) xyxy in pixels of this size


class BoxMasker:
    """Predicts the masks of one image at a time.

    Args:
        trained: the checkpoint; its network moves to ``device``.
        transform: resizes to the network's input.
        device: the network runs there.
        masks: whether masks are averaged with those of the mirrored image, refined, or cut to their boxes.
        scales: multiples of the sizes of ``transform``. The network sees the image at each of them, and the scores of a mask are averaged
            on the finest grid. Label and confidence are those of the first.
    """

    def __init__(
        self, trained: Trained, transform: TestTransform, device: torch.device, masks: MaskConfig, scales: Sequence[float] = (1.0,)
    ) -> None:
        self.masks, self.device = masks, device
        self.model, self.transforms = trained.model.to(device), [transform.scaled(scale) for scale in scales]
        self.size_ranges = trained.model_config.size_ranges

    def __call__(self, pixels: NDArray[np.uint8], boxes: Sequence[Box | None], labels: Sequence[int]) -> list[BoxMask]:
        """Return the mask of each of the G boxes, in their order.

        Args:
            pixels: ``(H, W, 3)`` RGB.
            boxes: xyxy in pixels; only the part inside the image counts. A box without area there, or None, gets an empty mask and
                confidence 0.
            labels: class of each box; ``ANY_CLASS`` uses the best class of each location.
        """
        size = pixels.shape[0], pixels.shape[1]
        found = [BoxMask(rle.empty(size), label, 0.0) for label in labels]
        parts = {index: part for index, box in enumerate(boxes) if box is not None and (part := inside(box, size)) is not None}
        if parts:
            corners = np.array(list(parts.values()), dtype=np.float32)
            sample = Sample(pixels, corners, np.array([labels[index] for index in parts]), None, 0, Path())
            for index, mask in zip(parts, self._masks(sample), strict=True):
                found[index] = mask
        return found

    @torch.inference_mode()
    def _masks(self, sample: Sample) -> Iterator[BoxMask]:
        """Yield the mask of each of the G boxes, computed in groups."""
        views = [self._view(sample, transform) for transform in self.transforms]
        finest = max(range(len(views)), key=lambda i: views[i].batch.padded_size)
        given, labels = torch.from_numpy(sample.boxes).to(self.device), torch.from_numpy(sample.labels).to(self.device)
        for group in torch.arange(len(given), device=self.device).split(BOXES_AT_ONCE):
            fits, logits = zip(*(self._logits(view, view.boxes[group], labels[group]) for view in views), strict=True)
            mean = _averaged(logits, [view.batch for view in views], finest)
            masks = masks_in_boxes(mean, views[finest].batch, 0, given[group], self.masks)
            rows = zip(masks, fits[0].labels.tolist(), fits[0].confidence.tolist(), strict=True)
            yield from (BoxMask(mask, label, round(confidence, 4)) for mask, label, confidence in rows)

    def _view(self, sample: Sample, transform: TestTransform) -> _View:
        batch = collate([transform(sample, position=0)]).to(self.device)
        dense = self.model(self.model.normalize(batch.pixels, batch.image_sizes))
        mirrored = predict_mirrored(self.model, batch) if self.masks.flip else None
        return _View(batch, dense, mirrored, _at_input_size(sample, batch.image_sizes[0]).to(self.device))

    def _logits(self, view: _View, boxes: Tensor, labels: Tensor) -> tuple[BoxFits, Tensor]:
        """Return the locations of ``boxes (n, 4)`` and the logits of their masks ``(n, h, w)``."""
        fits = fit_given_boxes(view.dense, 0, boxes, labels, padded_size=view.batch.padded_size, size_ranges=self.size_ranges)
        zeros, counts = torch.zeros_like(fits.loc_inds), (len(boxes),)
        samples = MaskSamples(zeros, fits.loc_inds, zeros, counts, counts)
        return fits, averaged_mask_logits(self.model, view.dense, view.mirrored, samples, view.batch, 0)


def _averaged(logits: Sequence[Tensor], batches: Sequence[Batch], finest: int) -> Tensor:
    """Return the logits of the mean scores ``(n, h, w)`` of masks of the same boxes at several sizes, on the grid of size ``finest``."""
    if len(logits) == 1:
        return logits[0]
    grids = [_grid(batch, masks) for batch, masks in zip(batches, logits, strict=True)]
    scores = [resampled(masks.float().sigmoid(), grid, grids[finest]) for masks, grid in zip(logits, grids, strict=True)]
    return torch.stack(scores).mean(dim=0).logit(eps=1e-6)


def _grid(batch: Batch, masks: Tensor) -> MaskGrid:
    cells = masks.shape[-2], masks.shape[-1]
    return MaskGrid(cells, batch.padded_size[0] // cells[0], batch.image_sizes[0])


def labels_of_names(names: Iterable[str], known: Sequence[str]) -> list[int]:
    """Return the label of each class name; a name that the network does not know becomes ``ANY_CLASS``, with one warning."""
    listed = list(names)
    unknown = [name for name in listed if name not in known]
    if unknown:
        log.warning("the network does not know %s: such boxes get the mask of the class with the best score", ", ".join(unknown[:20]))
    return [known.index(name) if name in known else ANY_CLASS for name in listed]


def _at_input_size(sample: Sample, size: tuple[int, int]) -> Tensor:
    """Return the boxes ``(G, 4)`` in pixels of the network's input, including empty ones, which a training target leaves out."""
    scale = np.array([size[1] / sample.original_size[1], size[0] / sample.original_size[0]] * 2, dtype=np.float32)
    return torch.from_numpy(sample.boxes * scale)
