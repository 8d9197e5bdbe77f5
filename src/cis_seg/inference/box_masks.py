"""Predict the masks of the given boxes of one image.

Legend: G boxes of one image, H W its size in pixels.
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
from cis_seg.data.records import Sample
from cis_seg.data.transforms import TestTransform, collate
from cis_seg.inference.given_boxes import ANY_CLASS, fit_given_boxes
from cis_seg.inference.mirroring import averaged_mask_logits, predict_mirrored
from cis_seg.inference.postprocess import masks_in_boxes
from cis_seg.inference.predictor import Trained
from cis_seg.structures import RLE, MaskSamples

log = logging.getLogger(__name__)

BOXES_AT_ONCE = 64  # the mask head needs about 10 MB per box of a large image


@dataclass(frozen=True)
class BoxMask:
    """The mask of one given box."""

    mask: RLE  # at the image's size; empty if no part of the box with an area is inside the image
    label: int  # the given class, or for ``ANY_CLASS`` the best one of the selected location
    confidence: float  # agreement of the network's own detection with the box, 0 to 1, four digits (``fit_given_boxes``)


class BoxMasker:
    """Predicts the masks of one image at a time.

    Args:
        trained: the checkpoint; its network moves to ``device``.
        transform: resizes to the network's input.
        device: the network runs there.
        masks: whether masks are averaged with those of the mirrored image, refined, or cut to their boxes.
    """

    def __init__(self, trained: Trained, transform: TestTransform, device: torch.device, masks: MaskConfig) -> None:
        self.masks = masks
        self.model, self.transform, self.device = trained.model.to(device), transform, device
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
        batch = collate([self.transform(sample, position=0)]).to(self.device)
        dense = self.model(self.model.normalize(batch.pixels, batch.image_sizes))
        mirrored = predict_mirrored(self.model, batch) if self.masks.flip else None
        given, at_input = torch.from_numpy(sample.boxes), _at_input_size(sample, batch.image_sizes[0])
        for group in torch.arange(len(given)).split(BOXES_AT_ONCE):
            boxes, labels = at_input[group].to(self.device), torch.from_numpy(sample.labels)[group].to(self.device)
            fits = fit_given_boxes(dense, 0, boxes, labels, padded_size=batch.padded_size, size_ranges=self.size_ranges)
            zeros, counts = torch.zeros_like(fits.loc_inds), (len(group),)
            samples = MaskSamples(zeros, fits.loc_inds, zeros, counts, counts)
            logits = averaged_mask_logits(self.model, dense, mirrored, samples, batch, 0)
            masks = masks_in_boxes(logits, batch, 0, given[group].to(self.device), self.masks)
            rows = zip(masks, fits.labels.tolist(), fits.confidence.tolist(), strict=True)
            yield from (BoxMask(mask, label, round(confidence, 4)) for mask, label, confidence in rows)


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
