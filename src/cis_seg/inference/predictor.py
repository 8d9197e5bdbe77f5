"""Load a checkpoint and predict.

Legend: B batch, H W padded input size in pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cis_seg.checkpoints import checkpoint_metadata, load_file, load_strictly, model_state
from cis_seg.config.schema import DataConfig, ModelConfig
from cis_seg.config.validation import node_from_plain
from cis_seg.data.batches import collate
from cis_seg.data.transforms import Pixels, TestTransform
from cis_seg.errors import ConfigError
from cis_seg.inference.photos import unlabelled
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.tiles import Window, merged
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.structures import Batch, Instances

log = logging.getLogger(__name__)

#: ratio to the checkpoint's own image size beyond which a warning is logged; the paper's two test sizes differ by 1.42
FAR = 1.5


@dataclass(frozen=True)
class Trained:
    """The content of a checkpoint, ready to predict."""

    model: CondInst  # in evaluation mode, on the CPU
    model_config: ModelConfig  # its sizes
    class_names: tuple[str, ...]  # name of each label
    category_ids: tuple[int, ...]  # COCO id of each label
    config: dict[str, Any]  # the config of the run that wrote it; a converted checkpoint has little but ``model``


def load_trained(path: Path) -> Trained:
    """Load the network of a checkpoint; no other file is needed, and torch's random numbers are left as they are.

    Raises:
        CheckpointError: missing, corrupt, not written by ``cis_seg``, or with a config that does not fit this version.
    """
    content = load_file(path)
    state, metadata = model_state(content, path), checkpoint_metadata(content, path)
    names = tuple(metadata["class_names"])
    config = node_from_plain(ModelConfig, metadata["config"]["model"], path, "model")
    with torch.random.fork_rng(devices=[]):  # for the random weights, which are replaced
        model = build_model(config, len(names))
    load_strictly(model, state, path)
    ids = tuple(metadata.get("category_ids") or range(1, len(names) + 1))
    return Trained(model.eval(), config, names, ids, metadata["config"])


def test_transform(trained: Trained, size: int | None, max_size: int | None) -> TestTransform:
    """Return the resizing of the checkpoint's own validation, unless ``size`` or ``max_size`` (shorter, longer side) are given."""
    validated: dict[str, Any] = trained.config.get("data") or {}
    size = size or int(validated.get("test_size", DataConfig.test_size))
    longest = max_size or int(validated.get("test_max_size", DataConfig.test_max_size))
    log.info("images are resized to a shorter side of %d pixels, a longer side of at most %d", size, longest)
    return TestTransform(size=size, max_size=longest)


def warn_of_size(trained: Trained, path: Path, size: int) -> None:
    """Warn if ``size``, the shorter side in pixels, is far from the one that the checkpoint was validated at."""
    own = (trained.config.get("data") or {}).get("test_size")
    if own is not None and not 1 / FAR < size / int(own) < FAR:
        log.warning(
            "%s was validated at a shorter side of %d pixels and now gets %d, which may cost detections; data.test_size=%d is its own size",
            *(path, own, size, own),
        )


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto`` (a GPU if available), ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises:
        ConfigError: this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        expected = f"auto or one of {', '.join(available)}"
        raise ConfigError("this device cannot be used", where="device", expected=expected, found=name) from error
    return device


@torch.inference_mode()
def predict_batch(model: CondInst, postprocess: Postprocess, batch: Batch, device: torch.device) -> list[Instances]:
    """Return the instances of the images of ``batch``, at their original sizes; the model must be on ``device``."""
    on_device = batch.to(device)
    dense = model(model.normalize(on_device.pixels, batch.image_sizes))
    return postprocess(model, dense, batch)


def predict_tiles(
    model: CondInst,
    postprocess: Postprocess,
    image: Pixels,
    tiles: Sequence[Window],
    transform: TestTransform,
    device: torch.device,
    *,
    batch_size: int = 1,
) -> Instances:
    """Return the instances of an image ``(H, W, 3)`` that the network sees as a whole and in tiles, each resized by ``transform``.

    Masks are kept as run-length codes, and tiles are cut when their batch is due.
    """
    size = (image.shape[0], image.shape[1])
    groups = [[(0, 0, size[1], size[0])], *(tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size))]
    found: list[tuple[Window, Instances]] = []
    for group in groups:
        batch = collate([unlabelled(image[y0:y1, x0:x1], transform) for x0, y0, x1, y1 in group])
        found += zip(group, predict_batch(model, postprocess, batch, device), strict=True)
    instances, most = merged(found, size, postprocess.detection.nms_threshold), postprocess.detection.max_detections
    if len(instances.scores) > most:
        log.warning("%d of %d instances are kept, the best (max_detections)", most, len(instances.scores))
    boxes, scores, labels = (values[:most] for values in (instances.boxes, instances.scores, instances.labels))
    return Instances(boxes, scores, labels, instances.masks[:most], size)
