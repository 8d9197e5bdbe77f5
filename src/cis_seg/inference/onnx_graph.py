"""The whole of inference as one module of tensors, pixels in and instances out, that ``torch.onnx`` can turn into a graph.

Legend: K locations of all levels, C classes, m candidates, n detections, H W the image, h w mask grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, nms

from cis_seg.data.transforms import DIVISOR
from cis_seg.inference.postprocess import Postprocess
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.ops.boxes import has_area, ltrb_to_boxes
from cis_seg.ops.masks import aligned_bilinear
from cis_seg.structures import DensePredictions, MaskSamples

#: the graph's outputs in their order, each with the names of its axes
OUTPUTS: dict[str, tuple[str | int, ...]] = {
    "boxes": ("detections", 4),
    "scores": ("detections",),
    "labels": ("detections",),
    "masks": ("detections", "height", "width"),
}


class OnnxGraph(nn.Module):
    """What ``predict_batch`` does to one image that is resized already, without a branch that depends on what is found.

    It takes the numbers of ``Postprocess``, but not its code: that one skips, groups and cuts with Python numbers read off the device
    and codes its masks; a graph has tensors alone. Deviations, none of which changes a result but where two numbers tie:

    * the masks are those of the given pixels, not of a file's original size: ``size == original`` of ``render_masks``;
    * classes are kept apart in NMS by moving their boxes, as torchvision does for up to 1000 boxes; beyond it compares class by class,
      so an IoU within float32's rounding of the threshold may fall on its other side. With one class nothing is moved.

    All n masks stand side by side here, 4 bytes a pixel each while they are enlarged: 100 at 800 x 1333 need about 1.5 GB.

    Args:
        model: in evaluation mode.
        postprocess: thresholds and counts; they become constants of the graph.
    """

    def __init__(self, model: CondInst, postprocess: Postprocess) -> None:
        super().__init__()
        self.model, self.settings = model, postprocess
        self.mask_stride = model.mask_head.feat_stride // model.mask_head.factor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(3, H, W)`` uint8 RGB pixels of any size -> boxes, scores, labels and masks, best score first.

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
        filled = _places(has_area(boxes))
        masks = self._masks(dense, locs[filled])[:, :height, :width]
        return boxes[filled], scores[filled], labels[filled], masks

    def _detect(self, dense: DensePredictions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``Postprocess.detect`` of the only image: locations, labels, scores and boxes after NMS, best first."""
        product = dense.cls_logits[0].sigmoid() * dense.ctr_logits[0].sigmoid().unsqueeze(-1)  # (K, C)
        locs, labels = (product > self.settings.detection.score_threshold).nonzero(as_tuple=True)
        # not `stable`, which the exporter does not know: ONNX sorts stably anyway (TopK takes the lower index first)
        values, order = product[locs, labels].sort(descending=True)
        locs, labels = locs[order], labels[order]
        kept = _places(_rank_in_level(dense.locations.level_inds[locs]) <= self.settings.candidates_per_level)
        locs, labels, scores = locs[kept], labels[kept], values[kept].sqrt()
        boxes = ltrb_to_boxes(dense.locations.xy[locs], dense.ltrb[0, locs] * dense.locations.strides[locs].unsqueeze(-1))
        best = nms(_apart(boxes, labels), scores, self.settings.detection.nms_threshold)[: self.settings.detection.max_detections]
        return locs[best], labels[best], scores[best], boxes[best]

    def _masks(self, dense: DensePredictions, locs: Tensor) -> Tensor:
        """``(n, H, W)`` bool of the padded image; the order of ``render_masks``."""
        counts = (locs.shape[0],)
        logits = self.model.mask_logits(dense, MaskSamples(torch.zeros_like(locs), locs, locs, counts, counts))
        scores = aligned_bilinear(logits.sigmoid().unsqueeze(1), self.mask_stride).squeeze(1)
        return scores > self.settings.mask_threshold


def _places(chosen: Tensor) -> Tensor:
    """Where ``chosen`` ``(m,)`` bool is true."""
    return chosen.nonzero().squeeze(1)


def _rank_in_level(level_inds: Tensor) -> Tensor:
    """How many of the candidates up to each one, itself included, are of its level: ``(m,)`` int64."""
    own = (level_inds.unsqueeze(1) == torch.arange(len(LEVELS), device=level_inds.device)).long()  # (m, levels)
    return (own.cumsum(dim=0) * own).sum(dim=1)


def _apart(boxes: Tensor, labels: Tensor) -> Tensor:
    """``boxes`` ``(m, 4)``, those of different classes moved so far that they do not touch."""
    extent = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1  # the zero because there may be no box
    return boxes + (labels.to(boxes) * extent).unsqueeze(1)
