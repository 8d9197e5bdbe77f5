"""An ONNX file beside PyTorch on one image, and networks that find something before they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.models.resnet import Bottleneck

from cis_seg.data.batches import collate
from cis_seg.data.transforms import Example
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import predict_batch
from cis_seg.model.condinst import CondInst
from cis_seg.structures import Instances, Target

NEAR = 1e-3  # how near to the threshold a detection may be lost or won
SPREAD = 20.0  # because fresh heads say nearly the same everywhere
TOO_FAR = 1.0  # px; boxes farther apart are different detections


@dataclass(frozen=True)
class Agreement:
    """How ONNX's detections differ from PyTorch's."""

    size: tuple[int, int]  # of the image
    count: int  # PyTorch's detections
    alone: int  # detections that only one side has, those near the threshold left out
    near: int  # those
    box: float  # px, the largest difference
    score: float
    pixels: float  # share of all masks' pixels that differ
    worst: float  # the same of the detection in which most do


@torch.no_grad()
def lively(model: CondInst, candidates: int = 200) -> CondInst:
    """``model`` with boxes of some strides, masks that are not empty, features that do not explode, and so many products of class score
    and centerness above the threshold in an image of noise."""
    model.eval()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.mul_(0.2)  # else a frozen norm doubles the variance thirty times
    head = model.head
    for layer in (head.cls_logits, head.box_pred, head.controller):
        layer.weight.mul_(SPREAD)
    head.box_pred.bias.fill_(2.0)  # type: ignore[union-attr]
    dense = model(model.normalize(noise((256, 320))[None], [(256, 320)]))
    needed = (Postprocess().detection.score_threshold / dense.ctr_logits.sigmoid()).clamp(max=0.99).logit().unsqueeze(-1) - dense.cls_logits
    head.cls_logits.bias.add_(needed.flatten().kthvalue(candidates).values)  # type: ignore[operator]
    return model


def noise(size: tuple[int, int], contrast: float = 1.0, seed: int = 0) -> Tensor:
    """``(3, H, W)`` uint8: blots of eight pixels, whose colours leave grey as far as ``contrast`` says."""
    cells = [-(-side // 8) for side in size]
    blots = torch.rand(3, *cells, generator=torch.Generator().manual_seed(seed)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return (128 + contrast * 255 * (blots[:, : size[0], : size[1]] - 0.5)).clamp(0, 255).to(torch.uint8)


def torch_finds(model: CondInst, settings: Postprocess, image: Tensor) -> Instances:
    """What the package's own prediction finds in ``image`` ``(3, H, W)``, which is not resized."""
    size, nothing = (image.shape[1], image.shape[2]), Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    batch = collate([Example(image, image, nothing, 0, size, 0)])
    return predict_batch(model, settings, batch, torch.device("cpu"))[0]


def agreement(model: CondInst, settings: Postprocess, session: Any, image: Tensor) -> Agreement:
    """Compares ``session`` (onnxruntime's) with PyTorch's prediction."""
    return agreement_with(torch_finds(model, settings, image), settings, session, image)


def agreement_with(expected: Instances, settings: Postprocess, session: Any, image: Tensor) -> Agreement:
    """Compares ``session`` with what was found in ``image`` without resizing it."""
    boxes, scores, labels, masks = session.run(None, {"image": image.numpy()})
    assert (boxes.dtype, scores.dtype, labels.dtype, masks.dtype) == (np.float32, np.float32, np.int64, np.bool_)
    assert masks.shape == (len(boxes), *image.shape[1:])
    free = set(range(len(boxes)))
    pairs: list[tuple[int, int]] = []
    for i, box in enumerate(expected.boxes.numpy()):
        same = [j for j in free if labels[j] == expected.labels[i] and np.abs(boxes[j] - box).max() < TOO_FAR]
        if same:
            pairs.append((i, min(same, key=lambda j: float(np.abs(boxes[j] - box).max()))))
            free.remove(pairs[-1][1])
    lost = [float(expected.scores[i]) for i in set(range(len(expected.boxes))) - {i for i, _ in pairs}]
    only = [*lost, *(float(scores[j]) for j in free)]
    limits = [settings.detection.score_threshold**0.5]
    if len(expected.boxes) == settings.detection.max_detections:
        limits.append(float(expected.scores[-1]))
    near = sum(any(abs(score - limit) < NEAR for limit in limits) for score in only)
    truth = [coco_mask.decode(code).astype(bool) for code in expected.masks]
    differ = [float((masks[j] != truth[i]).mean()) for i, j in pairs]
    return Agreement(
        (image.shape[1], image.shape[2]),
        len(expected.boxes),
        len(only) - near,
        near,
        max((float(np.abs(boxes[j] - expected.boxes[i].numpy()).max()) for i, j in pairs), default=0.0),
        max((abs(float(scores[j]) - float(expected.scores[i])) for i, j in pairs), default=0.0),
        float(np.mean(differ)) if differ else 0.0,
        max(differ, default=0.0),
    )
