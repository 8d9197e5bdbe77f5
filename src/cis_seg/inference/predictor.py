"""A checkpoint at work: the network it holds, the device it runs on, the instances of a batch.

Legend: B batch, H W padded input size in pixels.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cis_seg.checkpoints.reading import card_of, load_file, load_strictly, model_state
from cis_seg.config.plain import node_from_plain
from cis_seg.config.schema import DataConfig, ModelConfig
from cis_seg.data.transforms import TestTransform
from cis_seg.errors import ConfigError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.structures import Batch, Instances

log = logging.getLogger(__name__)

#: how many times larger or smaller images may be than a checkpoint's own; because the paper's two sizes differ by 1.42
FAR = 1.5


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds, ready to predict."""

    model: CondInst  # in evaluation mode, on the CPU
    class_names: tuple[str, ...]  # name of each label
    category_ids: tuple[int, ...]  # COCO id of each label
    config: dict[str, Any]  # the config of the run that wrote it; a converted checkpoint's has little but ``model``


def load_trained(path: Path) -> Trained:
    """The network of a checkpoint; needs nothing but the file.

    Raises:
        CheckpointError: missing, damaged, or not written by ``cis_seg``.
    """
    content = load_file(path)
    state, card = model_state(content, path), card_of(content, path)
    names = tuple(card["class_names"])
    model = build_model(node_from_plain(ModelConfig, card["config"]["model"]), len(names))
    load_strictly(model, state, path)
    ids = tuple(card.get("category_ids") or range(1, len(names) + 1))
    return Trained(model.eval(), names, ids, card["config"])


def test_transform(trained: Trained, size: int | None, max_size: int | None) -> TestTransform:
    """Resizes as the checkpoint's own run validated; ``size`` and ``max_size`` (pixels of the shorter and longer side) go before."""
    validated: dict[str, Any] = trained.config.get("data") or {}
    size = size or int(validated.get("test_size", DataConfig.test_size))
    longest = max_size or int(validated.get("test_max_size", DataConfig.test_max_size))
    log.info("images are looked at with a shorter side of %d pixels, a longer of %d at most", size, longest)
    return TestTransform(size=size, max_size=longest)


def warn_of_size(trained: Trained, path: Path, size: int) -> None:
    """Says so where ``size``, the shorter side in pixels, is far from the one at which the checkpoint's own run was validated."""
    own = (trained.config.get("data") or {}).get("test_size")
    if own is not None and not 1 / FAR < size / int(own) < FAR:
        log.warning(
            "%s was validated at a shorter side of %d pixels and is now shown %d, which it may not know people at; "
            "data.test_size=%d takes its own",
            *(path, own, size, own),
        )


def pick_device(name: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` ...

    Raises:
        ConfigError: no such device in this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        expected = f"auto or one of {', '.join(there)}"
        raise ConfigError("this device cannot be used", where="device", expected=expected, found=name) from error
    return device


@torch.inference_mode()
def predict_batch(model: CondInst, postprocess: Postprocess, batch: Batch, device: torch.device) -> list[Instances]:
    """The instances of the B images of ``batch``, at the sizes of their files; the model must be on ``device`` already."""
    on_device = batch.to(device)
    dense = model(model.normalize(on_device.pixels, batch.image_sizes))
    return postprocess(model, dense, batch)
