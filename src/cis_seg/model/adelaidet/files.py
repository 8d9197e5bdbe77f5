"""Conversion of a file, a checkpoint of AdelaiDet or an ImageNet backbone of detectron2 or Detectron (``R-50.pkl``), and a table of it."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cis_seg.errors import CheckpointError
from cis_seg.model.adelaidet.architecture import MSRA_PIXEL_MEAN, read_backbone
from cis_seg.model.adelaidet.convert import Conversion, check_tensors, convert_model, count_parts
from cis_seg.model.adelaidet.weights import Weights, read_weights, their_names
from cis_seg.model.resnet import ResNet
from cis_seg.runtime.atomic_files import write_atomically

#: the 1,000-class layer under the names of the three sources
CLASSIFIER = re.compile(r"(stem\.fc|fc1000|pred)([._])(weight|bias|w|b)")
#: bias of Detectron's stem, which detectron2 does not read because a norm follows
UNREAD_BIAS = "stem.conv1.bias"
#: variance that reduces a frozen norm (eps 1e-5) to scale and shift, for files without statistics
IDENTITY_VARIANCE = 1 - 1e-5


def is_backbone(weights: Weights) -> bool:
    """Whether the file contains a bare ResNet, under detectron2's or Caffe2's names."""
    return any(name in weights.tensors for name in ("stem.conv1.weight", "conv1_w"))


def convert_backbone(weights: Weights) -> Conversion:
    """Return a file for ``model.backbone.weights=FILE``.

    Caffe2's norms have only scale and shift; they get a mean of 0 and a variance of 1 - eps. The 1,000-class layer is dropped.

    Raises:
        CheckpointError: an unsupported ResNet, or missing, unexpected or wrongly shaped tensors.
    """
    tensors = {_detectron2_name(name): value for name, value in weights.tensors.items()}
    dropped = [name for name in tensors if CLASSIFIER.fullmatch(name) or name == UNREAD_BIAS]
    tensors = _with_statistics({name: value for name, value in tensors.items() if name not in dropped})
    weights = dataclasses.replace(weights, tensors=tensors)
    cfg = read_backbone(weights.shapes, body="")
    with torch.device("meta"):
        backbone = ResNet(depth=cfg.depth, width=cfg.width, frozen_norm=True, deform_interval=cfg.deform_interval)
    own = backbone.state_dict()
    theirs = {name: their_names(f"backbone.{name}", body="")[0] for name in own}
    check_tensors(weights, {theirs[name]: tuple(own[name].shape) for name in own})
    content = {name: tensors[theirs[name]].clone(memory_format=torch.contiguous_format) for name in own}
    notes = [f"dropped: {', '.join(dropped)}"] if dropped else []
    return Conversion(content, count_parts(backbone), [f"ResNet-{cfg.depth}", *notes, _required_config(weights.author)])


def _required_config(author: str) -> str:
    """Describe the config that the weights require."""
    if author == "torchvision":
        return "torchvision's weights: model.backbone.weights=FILE needs no further settings (RGB, stride in the 3x3)"
    mean = ",".join(map(str, MSRA_PIXEL_MEAN))
    return (
        "MSRA's weights: together with model.backbone.weights=FILE, set\n"
        f"  model.channel_order=bgr 'model.pixel_mean=[{mean}]' 'model.pixel_std=[1.0,1.0,1.0]' model.backbone.stride_in_1x1=true"
    )


#: (Caffe2, detectron2), applied in order
CAFFE2_RULES = (
    (r"res_conv1_bn", "stem.conv1.norm"),
    (r"conv1_(?=[wb]$)", "stem.conv1_"),
    (r"res(\d)_(\d+)_", r"res\1.\2."),
    (r"branch1(?=_)", "shortcut"),
    (r"branch2([abc])(?=_)", lambda m: f"conv{'abc'.index(m[1]) + 1}"),
    (r"_bn(?=_)", ".norm"),
    (r"_[ws]$", ".weight"),
    (r"_b$", ".bias"),
)


def _detectron2_name(name: str) -> str:
    if "." in name or CLASSIFIER.fullmatch(name):
        return name
    for pattern, replacement in CAFFE2_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def _with_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` with mean and variance added to each norm if the file has none."""
    if any(name.endswith("running_var") for name in tensors):
        return tensors
    norms = {name.removesuffix("weight"): value for name, value in tensors.items() if name.endswith("norm.weight")}
    means = {f"{name}running_mean": torch.zeros_like(value) for name, value in norms.items()}
    return tensors | means | {f"{name}running_var": torch.full_like(value, IDENTITY_VARIANCE) for name, value in norms.items()}


def convert_file(source: Path, target: Path, *, class_names: Sequence[str] | None = None) -> Conversion:
    """Convert ``source`` and write ``target`` atomically.

    A full model becomes a checkpoint, a bare ImageNet backbone a file for ``model.backbone.weights``.

    Args:
        source: ``.pth`` or ``.pkl`` file of AdelaiDet, detectron2 or Detectron.
        target: file to write; its folder is created, an existing file is replaced.
        class_names: class names in label order, for models with other classes than COCO's.

    Raises:
        UserError: the file cannot be converted; nothing is written.
    """
    if target.resolve() == source.resolve():
        raise CheckpointError("the output would replace the input", where=source, remedy="choose another name")
    weights = read_weights(source)
    conversion = convert_backbone(weights) if is_backbone(weights) else convert_model(weights, class_names)
    target.parent.mkdir(parents=True, exist_ok=True)
    stored = io.BytesIO()
    torch.save(conversion.content, stored)
    write_atomically(target, stored.getbuffer())
    return conversion


def print_conversion(console: Console, conversion: Conversion, *, source: Path, target: Path) -> None:
    """Print a table of the parts, then the notes."""
    table = Table("part", "tensors", "parameters", "buffer elements")
    for part in sorted(conversion.parts, key=lambda part: part == "all"):
        table.add_row(part, *(f"{number:,}" for number in conversion.parts[part]))
    console.print(table)
    for note in [*conversion.notes, f"{source} -> {target}"]:
        console.print(note, soft_wrap=True, markup=False, highlight=False)
