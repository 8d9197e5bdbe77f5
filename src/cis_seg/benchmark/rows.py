"""The rows of the benchmark: their definition, and those of single operations.

Legend: N mask samples, h w mask grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cis_seg.benchmark import textbook
from cis_seg.benchmark.textbook import logits_of, samples_of, scene
from cis_seg.losses.overlap import overlap_loss
from cis_seg.losses.pairwise import pairwise_loss
from cis_seg.losses.projection import projection_loss
from cis_seg.model.mask_head import DynamicMaskHead
from cis_seg.ops.color import color_similarity, pooled_colors, valid_mask
from cis_seg.ops.masks import box_masks
from cis_seg.structures import Batch, MaskSamples

#: one repeat of the work; returns values that are compared with those of the other side
Work = Callable[[], Mapping[str, Tensor]]
STRIDE = 4  # of the mask grid


@dataclass(frozen=True)
class Setting:
    """The device, and whether inputs are tiny."""

    device: str = "cpu"
    quick: bool = False


#: prepares the work of one side, untimed
Side = Callable[[Setting], Work]


@dataclass(frozen=True)
class Row:
    """Two implementations of the same computation."""

    ours: Side
    baseline: Side
    tolerance: float | None = 1e-5  # relative to the largest value; None if the sides do different work
    note: str = ""


@dataclass(frozen=True)
class MaskInputs:
    """64 mask samples of one image of 480 x 640 pixels with 20 people."""

    batch: Batch
    samples: MaskSamples
    logits: Tensor  # (N, h, w), a leaf with a gradient
    boxes: Tensor  # (N, 4)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)"""
        return self.logits.shape[1], self.logits.shape[2]

    @property
    def padded(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return self.grid[0] * STRIDE, self.grid[1] * STRIDE


def mask_inputs(setting: Setting, people: int = 20) -> MaskInputs:
    """Return the same inputs at every call; tiny ones if ``quick``."""
    size, people, count = ((192, 256), 3, 6) if setting.quick else ((480, 640), people, 64)
    batch = scene(size, people, device=setting.device)
    samples = samples_of(batch, count)
    logits = logits_of(samples, (size[0] // STRIDE, size[1] // STRIDE)).requires_grad_()
    return MaskInputs(batch, samples, logits, batch.targets[0].boxes[samples.gt_inds])


def our_similarity(inputs: MaskInputs) -> Tensor:
    """Return ``(1, E, h, w)``."""
    batch = inputs.batch
    valid = valid_mask(batch.image_sizes, batch.original_sizes, inputs.padded, STRIDE, batch.pixels.device)
    return color_similarity(pooled_colors(batch.clean_pixels, STRIDE), valid)


def textbook_similarity(inputs: MaskInputs) -> Tensor:
    """Return ``(E, h, w)``."""
    batch = inputs.batch
    valid = torch.ones(inputs.padded, device=batch.pixels.device)
    valid[inputs.padded[0] - 10 :] = 0  # the bottom rows, which ``valid_mask`` excludes
    colors = pooled_colors(batch.clean_pixels, STRIDE)[0]
    return textbook.color_similarity(colors, valid[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])


def _with_gradient(loss: Tensor, *leaves: Tensor) -> dict[str, Tensor]:
    """Run backward, return loss and gradients, and clear the gradients for the next repeat."""
    loss.backward()
    numbers = {"loss": loss.detach()} | {f"grad {i}": leaf.grad for i, leaf in enumerate(leaves) if leaf.grad is not None}
    for leaf in leaves:
        leaf.grad = None
    return numbers


def _color(setting: Setting, *, ours: bool) -> Work:
    """Colour similarity and box masks of an image with 80 people."""
    inputs = mask_inputs(setting, people=80)
    boxes = inputs.batch.targets[0].boxes
    if ours:
        return lambda: {"similarity": our_similarity(inputs)[0], "boxes": box_masks(boxes, inputs.grid, STRIDE)}
    return lambda: {"similarity": textbook_similarity(inputs), "boxes": textbook.box_bitmaps(boxes, inputs.padded, STRIDE)}


def _pairwise(setting: Setting, *, ours: bool) -> Work:
    inputs = mask_inputs(setting)
    inside, similarity, im_inds = box_masks(inputs.boxes, inputs.grid, STRIDE), our_similarity(inputs), inputs.samples.im_inds
    if ours:
        return lambda: _with_gradient(pairwise_loss(inputs.logits, inside, similarity, im_inds), inputs.logits)
    return lambda: _with_gradient(textbook.pairwise_loss(inputs.logits, inside.float(), similarity[im_inds]), inputs.logits)


def _projection(setting: Setting, *, ours: bool) -> Work:
    inputs = mask_inputs(setting)
    inside = box_masks(inputs.boxes, inputs.grid, STRIDE)
    if ours:
        return lambda: _with_gradient(projection_loss(inputs.logits.sigmoid(), inside), inputs.logits)
    bitmaps = inside.float()
    return lambda: _with_gradient(textbook.projection_loss(inputs.logits.sigmoid(), bitmaps), inputs.logits)


def _our_overlap(inputs: MaskInputs, scores: Tensor) -> Tensor:
    sizes = list(zip(inputs.samples.counts, inputs.samples.instances, strict=True))
    draw = torch.Generator().manual_seed(0)
    return overlap_loss(scores, inputs.samples.im_inds, inputs.samples.gt_inds, generator=draw, sizes=sizes)


def _textbook_overlap(inputs: MaskInputs, scores: Tensor) -> Tensor:
    noise = torch.rand(len(scores), generator=torch.Generator().manual_seed(0))  # the same draw as in ``overlap_loss``
    return textbook.overlap_loss(scores, inputs.samples.gt_inds, noise.to(scores.device))


def _overlap(setting: Setting, *, ours: bool) -> Work:
    inputs = mask_inputs(setting)
    loss = _our_overlap if ours else _textbook_overlap
    return lambda: _with_gradient(loss(inputs, inputs.logits.sigmoid()), inputs.logits)


def _mask_losses(setting: Setting, *, ours: bool) -> Work:
    """All mask losses, including colour similarity and box masks."""
    inputs = mask_inputs(setting)

    def our_losses() -> Mapping[str, Tensor]:
        scores, inside = inputs.logits.sigmoid(), box_masks(inputs.boxes, inputs.grid, STRIDE)
        pairwise = pairwise_loss(inputs.logits, inside, our_similarity(inputs), inputs.samples.im_inds)
        return _with_gradient(projection_loss(scores, inside) + pairwise + _our_overlap(inputs, scores), inputs.logits)

    def textbook_losses() -> Mapping[str, Tensor]:
        bitmaps = textbook.box_bitmaps(inputs.boxes, inputs.padded, STRIDE)
        similarity = textbook_similarity(inputs)[None][inputs.samples.im_inds]
        scores = inputs.logits.sigmoid()
        pairwise = textbook.pairwise_loss(inputs.logits, bitmaps, similarity)
        return _with_gradient(textbook.projection_loss(scores, bitmaps) + pairwise + _textbook_overlap(inputs, scores), inputs.logits)

    return our_losses if ours else textbook_losses


def _head(setting: Setting, *, ours: bool, compiled: bool = False) -> Work:
    """64 instances of one image of 480 x 640: features of 16 channels at stride 8, logits at stride 4."""
    (h, w), count = ((8, 12), 6) if setting.quick else ((60, 80), 64)
    generator, head = torch.Generator().manual_seed(0), DynamicMaskHead()
    feats = torch.randn(1, 16, h, w, generator=generator).to(setting.device).requires_grad_()
    params = (0.3 * torch.randn(count, head.num_params, generator=generator)).to(setting.device).requires_grad_()
    locations = (torch.rand(count, 2, generator=generator) * 8 * h).to(setting.device)
    strides = (2.0 ** torch.randint(3, 8, (count,), generator=generator)).to(setting.device)
    im_inds = torch.zeros(count, dtype=torch.int64, device=setting.device)
    our_head = torch.compile(head.__call__, dynamic=True) if compiled and not setting.quick else head

    def work() -> Mapping[str, Tensor]:
        if ours:
            logits = our_head(feats, params, locations, strides, [count])
        else:
            logits = textbook.dynamic_mask_head(feats, params, locations, strides, im_inds)
        return _with_gradient(logits.square().mean(), feats, params) | {"logits": logits.detach()}

    return work


def both_sides(side: Callable[..., Work], note: str = "", tolerance: float | None = 1e-5) -> Row:
    """Return the row of a function that prepares either side."""
    return Row(lambda setting: side(setting, ours=True), lambda setting: side(setting, ours=False), tolerance, note)


OPERATIONS: dict[str, Row] = {
    # the textbook's colours are converted in float64, ours in float32
    "color_similarity": both_sides(_color, "and box masks, 480x640, 80 people", tolerance=1e-4),
    "pairwise_loss": both_sides(_pairwise, "64 masks, 120x160, forward + backward"),
    "projection_loss": both_sides(_projection, "the same"),
    "dynamic_mask_head": both_sides(_head, "64 masks, 60x80, forward + backward"),
    "dynamic_mask_head_compiled": both_sides(partial(_head, compiled=True), "the same with compile=true"),
    "overlap_loss": both_sides(_overlap, "64 masks of 20 people, 120x160, forward + backward"),
    "mask_losses": both_sides(_mask_losses, "projection + pairwise + overlap, with colours and boxes"),
}
