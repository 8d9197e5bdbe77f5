"""A network of a few thousand parameters, and batches for it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.structures import Batch, Target

#: a batch whose second image is smaller than the canvas
PADDED, SIZES, ORIGINALS = (64, 96), ((64, 96), (50, 70)), ((128, 192), (100, 140))


def tiny_config(**changes: Any) -> ModelConfig:
    """The smallest network with all parts; ``changes`` are fields of ModelConfig."""
    config = ModelConfig(
        backbone=BackboneConfig(depth=10, width=16, weights=None),
        neck_channels=16,
        head_channels=16,
        head_convs=1,
        head_norm_groups=4,
        mask_branch_channels=8,
        mask_branch_convs=1,
        mask_feat_channels=4,
        mask_head_channels=4,
    )
    return replace(config, **changes)


def tiny_model(num_classes: int = 2, **changes: Any) -> CondInst:
    """The same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(tiny_config(**changes), num_classes)


def tiny_batch(*boxes: list[list[float]], with_masks: bool = False) -> Batch:
    """Two images of noise with the given boxes of class 1; no boxes where none are given."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, *PADDED), generator=generator, dtype=torch.uint8)
    pixels[1, :, SIZES[1][0] :] = 0
    pixels[1, :, :, SIZES[1][1] :] = 0
    targets = []
    for rows, size in zip(boxes or ([], []), SIZES, strict=True):
        masks = torch.rand(len(rows), *size, generator=generator) > 0.5 if with_masks else None
        targets.append(Target(torch.tensor(rows).view(-1, 4), torch.ones(len(rows), dtype=torch.int64), masks))
    return Batch(pixels, pixels, SIZES, ORIGINALS, (7, 9), (0, 1), tuple(targets))


def tiny_checkpoint(path: Path) -> Path:
    """A checkpoint of an untrained network for dogs and people, changed so that it finds something: sure, and with boxes of some size."""
    state = {f"model.{name}": value for name, value in tiny_model(num_classes=2).state_dict().items()}
    state["model.head.cls_logits.bias"] += 4
    state["model.head.box_pred.bias"].fill_(2.0)
    card = {"config": {"model": asdict(tiny_config()), "data": {"test_size": 64, "test_max_size": 128}}, "class_names": ["dog", "person"]}
    torch.save({"state_dict": state, "cis_seg": card}, path)
    return path
