"""From dense predictions to the instances a user sees: scores, NMS, masks at the original size, refined outlines.

Legend: B batch, K locations, C classes, n detections of an image, H W padded input, h w mask grid, h' w' the grid of half its stride.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from cis_seg.coco import rle
from cis_seg.config.schema import DetectionConfig, InferenceConfig, MaskConfig
from cis_seg.inference.mirroring import averaged_mask_logits, predict_mirrored
from cis_seg.inference.rescoring import rescored
from cis_seg.model.condinst import CondInst
from cis_seg.ops.boxes import has_area, ltrb_to_boxes
from cis_seg.ops.color import pooled_colors, rgb_to_lab
from cis_seg.ops.masks import aligned_bilinear, box_masks, touched_pixels, windows_around
from cis_seg.ops.mean_field import LEAST_SIDE, mean_field
from cis_seg.structures import RLE, Batch, DensePredictions, Instances, MaskSamples

#: neighbours on the finer grid; on the generated crowd, 50 iterations in place of 20 change mean IoU by 0.001
DILATIONS = (2, 4)
ITERATIONS = 20
#: full-size pixels rendered at once: 64 MB of float32, so that no (N, H, W) stack of 100 instances is created
MAX_PIXELS_AT_ONCE = 16_000_000
#: threads that encode masks; more do not help, since the encoding holds the GIL and only the transposition runs in parallel
ENCODERS = 4


def refine_masks(mask_logits: Tensor, pixels: Tensor, boxes: Tensor) -> Tensor:
    """Return mask logits after a mean field over colours inside the boxes (``ops.mean_field``); far below 0 outside.

    The grid is refined to half its stride first, because outlines are finer than the mask grid. A box with a shorter side of
    fewer than 16 cells keeps its mask, cut to the box, and a box between the cells of the grid keeps all of it.

    Args:
        mask_logits: ``(n, h, w)``.
        pixels: ``(3, H, W)`` uint8 RGB, the network's input.
        boxes: ``(n, 4)`` xyxy in pixels of the network's input.

    Returns:
        ``(n, h', w')`` float32; a mask stride of 1 stays.
    """
    stride = pixels.shape[-1] // mask_logits.shape[-1]
    factor = 2 if stride > 1 else 1
    stride //= factor
    lab = rgb_to_lab(pooled_colors(pixels[None], stride, truncate=False))
    inside = box_masks(boxes, (lab.shape[-2], lab.shape[-1]), stride)
    scores = aligned_bilinear(mask_logits.float().sigmoid().unsqueeze(1), factor).squeeze(1)
    of_image = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    windows = windows_around(inside, least_side=LEAST_SIDE * DILATIONS[0])
    refined = mean_field(scores, lab, inside, of_image, dilations=DILATIONS, iterations=ITERATIONS, windows=windows)
    between = ~inside.any(dim=2).any(dim=1)
    refined[between] = scores[between]
    return refined.logit_(eps=1e-6)


@dataclass(frozen=True)
class Postprocess:
    """Selection of detections and rendering of their masks, with the reference's thresholds.

    Args:
        detection: thresholds before and in NMS, and the cap per image. Deviation: the reference exceeds the cap when scores tie.
        candidates_per_level: best (location, class) pairs kept per level before NMS.
        mask_threshold: minimum mask score of a pixel, at the original size.
        masks: changes of masks and scores; none by default, as in the reference.
    """

    detection: DetectionConfig = field(default_factory=DetectionConfig)
    candidates_per_level: int = 1000
    mask_threshold: float = 0.5
    masks: InferenceConfig = field(default_factory=InferenceConfig)

    @torch.no_grad()
    def __call__(self, model: CondInst, dense: DensePredictions, batch: Batch) -> list[Instances]:
        """Return the instances of every image of ``batch``, at the original sizes.

        Args:
            model: the network that made ``dense``; renders the masks of the detections.
            dense: predictions for ``batch``.
            batch: its images may have different sizes (the reference fails there).
        """
        mirrored = predict_mirrored(model, batch) if self.masks.flip else None
        return [self._image(model, dense, mirrored, batch, i) for i in range(len(batch.image_sizes))]

    def _image(self, model: CondInst, dense: DensePredictions, mirrored: DensePredictions | None, batch: Batch, index: int) -> Instances:
        size, original = batch.image_sizes[index], batch.original_sizes[index]
        locs, labels, scores, boxes = self.detect(dense, index)
        scale = boxes.new_tensor([original[1] / size[1], original[0] / size[0]]).repeat(2)
        boxes = clip_boxes_to_image(boxes * scale, original)
        filled = has_area(boxes)
        locs, labels, scores, boxes = locs[filled], labels[filled], scores[filled], boxes[filled]
        counts = tuple(len(locs) if i == index else 0 for i in range(dense.cls_logits.shape[0]))
        samples = MaskSamples(torch.full_like(locs, index), locs, locs, counts, counts)
        mask_logits = averaged_mask_logits(model, dense, mirrored, samples, batch, index)
        if self.masks.rescore:
            stride = batch.padded_size[0] // mask_logits.shape[-2]
            scores, order = rescored(scores, _in_image(mask_logits, size, stride), self.mask_threshold)
            labels, boxes, mask_logits = labels[order], boxes[order], mask_logits[order]
        masks = masks_in_boxes(mask_logits, batch, index, boxes, self.masks, threshold=self.mask_threshold)
        return Instances(boxes, scores, labels, masks, original)

    def detect(self, dense: DensePredictions, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return locations, labels, scores and boxes (input pixels) of image ``index`` after NMS, best first."""
        # the threshold applies to class score x centerness, the score of a detection is its square root (AdelaiDet)
        product = dense.cls_logits[index].float().sigmoid() * dense.ctr_logits[index].float().sigmoid().unsqueeze(-1)  # (K, C)
        loc, label = (product > self.detection.score_threshold).nonzero(as_tuple=True)
        value = product[loc, label]
        keep = _best_per_level(value, dense.locations.level_inds[loc], self.candidates_per_level)
        loc, label, value = loc[keep], label[keep], value[keep]
        ltrb_px = dense.ltrb[index, loc].float() * dense.locations.strides[loc].unsqueeze(-1)
        boxes = ltrb_to_boxes(dense.locations.xy[loc], ltrb_px)
        scores = value.sqrt()
        kept = batched_nms(boxes, scores, label, self.detection.nms_threshold)[: self.detection.max_detections]
        return loc[kept], label[kept], scores[kept], boxes[kept]


def _in_image(mask_logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Return mask logits ``(n, h, w)`` without the cells whose pixel is in the padding of an image of ``size``."""
    height, width = (len(range(stride // 2, side, stride)) for side in size)
    return mask_logits[:, :height, :width]


def _best_per_level(values: Tensor, levels: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` best values of each level."""
    order = values.argsort(descending=True, stable=True)
    kept = [order[levels[order] == level][:count] for level in range(int(levels.max()) + 1)] if len(values) else [order]
    return torch.cat(kept)


def masks_in_boxes(
    mask_logits: Tensor, batch: Batch, index: int, boxes: Tensor, masks: MaskConfig, *, threshold: float = 0.5
) -> tuple[RLE, ...]:
    """Render the masks of image ``index`` of ``batch``; ``masks`` selects whether they are refined with its colours or cut to their boxes.

    Args:
        mask_logits: ``(n, h, w)``.
        batch: has the image on the device of ``mask_logits``.
        index: the image within the batch.
        boxes: ``(n, 4)`` xyxy in pixels of the original image.
        masks: what to change; nothing by default.
        threshold: minimum mask score of a pixel.
    """
    size, original = batch.image_sizes[index], batch.original_sizes[index]
    if masks.refine and len(boxes):
        scale = boxes.new_tensor([size[1] / original[1], size[0] / original[0]]).repeat(2)
        mask_logits = refine_masks(mask_logits, batch.pixels[index], boxes * scale)
    cut = boxes if masks.refine or masks.cut_to_box else None
    return render_masks(mask_logits, size, original, batch.padded_size, threshold=threshold, cut=cut)


def render_masks(
    mask_logits: Tensor,
    size: tuple[int, int],
    original: tuple[int, int],
    padded: tuple[int, int],
    *,
    threshold: float = 0.5,
    cut: Tensor | None = None,
) -> tuple[RLE, ...]:
    """Render mask logits ``(n, h, w)`` of one image as run-length codes at its original size.

    In the reference's order: sigmoid, aligned bilinear to the padded input, crop the padding, bilinear to the original size, threshold.
    Masks keep the pixels that the boxes ``cut`` ``(n, 4)``, in pixels of the original image, touch; without boxes (as in the reference)
    all. A few are rendered at a time, so that memory does not grow with n.
    """
    stride = padded[0] // mask_logits.shape[-2] if len(mask_logits) else 1
    largest = max(padded[0] * padded[1], original[0] * original[1])
    chunk = max(1, MAX_PIXELS_AT_ONCE // largest)
    codes: list[RLE] = []
    for start in range(0, len(mask_logits), chunk):
        part = mask_logits[start : start + chunk]
        scores = aligned_bilinear(part.float().sigmoid().unsqueeze(1), stride)[:, :, : size[0], : size[1]]
        full = F.interpolate(scores, size=original, mode="bilinear", align_corners=False).squeeze(1) > threshold
        if cut is not None:
            full &= touched_pixels(cut[start : start + chunk], original)
        codes += _encode(full.to(torch.uint8).cpu().numpy())
    return tuple(codes)


def _encode(masks: np.ndarray) -> list[RLE]:
    with ThreadPoolExecutor(ENCODERS) as pool:
        return list(pool.map(_encode_one, masks))


def _encode_one(mask: np.ndarray) -> RLE:
    # pycocotools expects column-major masks; cv2 transposes in blocks, eight times faster than numpy
    return rle.encode(cv2.transpose(mask).T)
