"""The reference's whole-model numbers: its checkpoint made by the fill rule, its two images, and how far a tensor is from its record."""

from __future__ import annotations

import json
import math
import runpy
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cis_seg.structures import Batch, Target

GAINS = {
    "stem.conv1.weight": math.sqrt(2) / 50,
    "conv2_offset.weight": 0.3,
    "fcos_head.cls_logits.weight": 1.2,
    "fcos_head.bbox_pred.weight": 1.0,
    "fcos_head.ctrness.weight": 1.0,
    "controller.weight": 0.6,
    "fpn_lateral": 1.0,
    "fpn_output": 1.0,
    "top_block.": 1.0,
    "lateral_": 1.0,
    "reduction.weight": 1.0,
    ".outputs_f": 2.0,
}
BIASES = {"fcos_head.cls_logits.bias": -5.3, "fcos_head.bbox_pred.bias": 2.0}
PADDED = (256, 320)


def entries(golden: Path, name: str) -> dict[str, Any]:
    """What names_shapes.json says about a model."""
    content: dict[str, Any] = json.loads((golden / "names_shapes.json").read_text())[name]
    return content


def reference_state(golden: Path, name: str) -> dict[str, Tensor]:
    """The reference's checkpoint, filled by the rule in fill_rule.txt."""
    shapes = entries(golden, name)["state_dict"]
    return {key: filled(key, tuple(shape), getattr(torch, kind)) for key, (shape, kind, _) in shapes.items()}


def filled(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """One tensor by the rule; buffers that it leaves alone as the reference makes them."""
    if name.endswith("sizes_of_interest"):
        return torch.tensor([64, 128, 256, 512, 1024])
    if name.endswith(("num_batches_tracked", "_iter")) or not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return 1 + 0.1 * torch.rand(shape, generator=generator)
    draw = torch.randn(shape, generator=generator)
    if name.endswith("running_mean"):
        return 0.1 * draw
    if len(shape) == 4:
        gain = next((gain for part, gain in GAINS.items() if part in name), math.sqrt(2))
        return draw * (gain / math.sqrt(shape[1] * shape[2] * shape[3]))
    if name.endswith(".bias"):
        return next((base for part, base in BIASES.items() if part in name), 0.0) + 0.1 * draw
    return (1 + 0.1 * draw) * (0.2 if name.endswith("conv3.norm.weight") else 1)


def golden_batch(golden: Path, *images: str) -> Batch:
    """The images "A" and "B" with their boxes on one padded canvas."""
    made = runpy.run_path(str(golden / "gold_inputs.py"))
    pixels = torch.zeros(len(images), 3, *PADDED, dtype=torch.uint8)
    for canvas, image in zip(pixels, images, strict=True):
        drawn = made["make_image"](*made[image]["size"], made[image]["seed"])
        canvas[:, : drawn.shape[1], : drawn.shape[2]] = drawn
    targets = tuple(Target(torch.tensor(made[i]["boxes"]), torch.tensor(made[i]["classes"])) for i in images)
    sizes, originals = (tuple(made[i][key] for i in images) for key in ("size", "orig"))
    order = tuple(range(len(images)))
    return Batch(pixels, pixels, sizes, originals, order, order, targets)


def sampled(tensor: Tensor, count: int) -> Tensor:
    """The values that golden.json keeps of a tensor."""
    flat = tensor.detach().contiguous().flatten().double()
    return torch.stack([flat[k * 1_000_003 % flat.numel()] for k in range(count)])


def deviation(tensor: Tensor, record: dict[str, Any]) -> float:
    """Largest absolute difference of samples, mean, std, extremes and mean magnitude from golden.json's record."""
    assert list(tensor.shape) == record["shape"]
    values = tensor.detach().double()
    statistics = {
        "mean": values.mean(),
        "std": values.std(unbiased=False),
        "abs_mean": values.abs().mean(),
        "min": values.min(),
        "max": values.max(),
    }
    samples = (sampled(tensor, len(record["samples"])) - torch.tensor(record["samples"], dtype=torch.float64)).abs().max().item()
    return max(samples, *(abs(value.item() - record[name]) for name, value in statistics.items()))
