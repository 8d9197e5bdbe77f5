"""Inference as one module of tensor operations, from pixels to instances, for ``torch.onnx``.

Legend: K locations of all levels, C classes, m candidates, n detections, H W the image, h w mask grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, nms

from cis_seg.data.batches import DIVISOR
from cis_seg.inference.postprocess import Postprocess
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.ops.boxes import has_area, ltrb_to_boxes
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.structures import DensePredictions, MaskSamples

#: outputs of the graph in order, with the names of their axes
OUTPUTS: dict[str, tuple[str | int, ...]] = {
    "boxes": ("detections", 4),
    "scores": ("detections",),
    "labels": ("detections",),
    "masks": ("detections", "height", "width"),
}


class OnnxGraph(nn.Module):
    """``predict_batch`` for one resized image, without data-dependent branches.

    It uses the settings of ``Postprocess`` but not its code, which branches on numbers read from the device and encodes masks. The results
    differ only for tied values:

    * masks have the size of the given pixels, not of the file;
    * NMS separates classes by shifting their boxes, as torchvision does for up to 1000 boxes; beyond that torchvision compares class by
      class, so an IoU within rounding of the threshold may be decided differently. With one class nothing is shifted.

    All n masks are upsampled at once with 4 bytes per pixel: 100 masks of 800 x 1333 need about 1.5 GB.

    Args:
        model: in evaluation mode.
        postprocess: thresholds and counts; they become constants of the graph.
    """

    def __init__(self, model: CondInst, postprocess: Postprocess) -> None:
        super().__init__()
        self.model, self.settings = model, postprocess
        self.mask_stride = model.mask_head.feat_stride // model.mask_head.factor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the instances of an image ``(3, H, W)`` of uint8 RGB pixels of any size, best score first.

        Returns:
            boxes ``(n, 4)`` float32 xyxy in pixels of ``image``, scores ``(n,)`` float32, labels ``(n,)`` int64 from 0, and masks
            ``(n, H, W)`` bool; n may be 0.
        """
        height, width = image.shape[-2:]
        pixels = self.model.standardize(image.unsqueeze(0).float())
        padded_height, padded_width = ((side + DIVISOR - 1) // DIVISOR * DIVISOR for side in (height, width))
        dense = self.model(F.pad(pixels, (0, padded_width - width, 0, padded_height - height)))
        locs, labels, scores, boxes = self._detect(dense)
        boxes = clip_boxes_to_image(boxes, (height, width))
        filled = _indices(has_area(boxes))
        masks = self._masks(dense, locs[filled])[:, :height, :width]
        return boxes[filled], scores[filled], labels[filled], masks

    def _detect(self, dense: DensePredictions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``Postprocess.detect`` of the image: locations, labels, scores and boxes after NMS, best first."""
        product = dense.cls_logits[0].sigmoid() * dense.ctr_logits[0].sigmoid().unsqueeze(-1)  # (K, C)
        locs, labels = (product > self.settings.detection.score_threshold).nonzero(as_tuple=True)
        # the exporter does not support `stable`; ONNX sorts stably anyway (TopK returns the lower index first)
        values, order = product[locs, labels].sort(descending=True)
        locs, labels = locs[order], labels[order]
        kept = _indices(_rank_in_level(dense.locations.level_inds[locs]) <= self.settings.candidates_per_level)
        locs, labels, scores = locs[kept], labels[kept], values[kept].sqrt()
        boxes = ltrb_to_boxes(dense.locations.xy[locs], dense.ltrb[0, locs] * dense.locations.strides[locs].unsqueeze(-1))
        best = nms(_apart(boxes, labels), scores, self.settings.detection.nms_threshold)[: self.settings.detection.max_detections]
        return locs[best], labels[best], scores[best], boxes[best]

    def _masks(self, dense: DensePredictions, locs: Tensor) -> Tensor:
        """Return the masks ``(n, H, W)`` bool of the padded image, as ``render_masks`` computes them."""
        counts = (locs.shape[0],)
        logits = self.model.mask_logits(dense, MaskSamples(torch.zeros_like(locs), locs, locs, counts, counts))
        scores = aligned_bilinear(logits.sigmoid().unsqueeze(1), self.mask_stride).squeeze(1)
        return scores > self.settings.mask_threshold


def _indices(chosen: Tensor) -> Tensor:
    """Return the indices of the true entries of ``(m,)`` bool."""
    return chosen.nonzero().squeeze(1)


def _rank_in_level(level_inds: Tensor) -> Tensor:
    """Return the rank 1, 2, ... of each candidate within its level, ``(m,)`` int64."""
    own = (level_inds.unsqueeze(1) == torch.arange(len(LEVELS), device=level_inds.device)).long()  # (m, levels)
    return (own.cumsum(dim=0) * own).sum(dim=1)


def _apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """Shift boxes ``(m, 4)`` of different classes so far apart that they do not overlap."""
    extent = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1  # the zero allows for no boxes
    return boxes + (labels.to(boxes) * extent).unsqueeze(1)
