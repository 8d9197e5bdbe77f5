"""Data modules with few words: the options of the data set, those of the batches, and the rest of the keywords together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cis_seg.config.schema import CocoData, CrowdHumanData, OptimConfig
from cis_seg.data.datamodules import CocoDataModule, CrowdHumanDataModule


def coco_data(root: Path, *, seed: int = 0, load_masks: bool = False, optional_masks: bool = False, **options: Any) -> CocoDataModule:
    optim, data = _apart(options)
    return CocoDataModule(CocoData(root=str(root), **data), optim=optim, seed=seed, load_masks=load_masks, optional_masks=optional_masks)


def crowdhuman_data(root: Path, *, load_masks: bool = False, optional_masks: bool = False, **options: Any) -> CrowdHumanDataModule:
    optim, data = _apart(options)
    return CrowdHumanDataModule(CrowdHumanData(root=str(root), **data), optim=optim, load_masks=load_masks, optional_masks=optional_masks)


def _apart(options: dict[str, Any]) -> tuple[OptimConfig, dict[str, Any]]:
    batch = {name: options.pop(name) for name in ("batch_size", "accumulate") if name in options}
    return OptimConfig(**batch), {"workers": 0, **options}
