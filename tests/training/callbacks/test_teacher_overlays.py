"""The teacher's masks as pictures: pixels that do not count are left out, and only a run with a teacher has them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cis_seg.coco import rle
from cis_seg.structures import Batch, PseudoMasks
from cis_seg.training.callbacks.teacher_overlays import TeacherOverlays, first_images, taught_drawings
from tiny_model import PADDED, tiny_batch

LEFT, RIGHT = [8.0, 8.0, 40.0, 40.0], [24.0, 8.0, 56.0, 40.0]


def taught(batch: Batch) -> PseudoMasks:
    """The left half of the map for everybody, of which the uppermost rows do not count; the second instance has no quality."""
    number = sum(len(target.boxes) for target in batch.targets)
    masks, trusted = torch.zeros(number, PADDED[0] // 4, PADDED[1] // 4), torch.ones(number, PADDED[0] // 4, PADDED[1] // 4).bool()
    masks[:, :, : PADDED[1] // 8] = 1
    trusted[:, :2] = False
    quality = torch.full((number,), 0.5)
    quality[1:2] = 0
    starts = np.cumsum([0, *(len(target.boxes) for target in batch.targets[:-1])])
    return PseudoMasks(masks, trusted, quality, tuple(starts.tolist()))


def test_masks_at_the_size_of_the_image() -> None:
    batch = tiny_batch([LEFT, RIGHT], [LEFT])
    first, second = taught_drawings(taught(batch), batch, 0)
    assert first.box == tuple(LEFT)
    assert (first.caption, second.caption) == ("0.50", "0.00")
    assert second.mask is None
    assert first.mask is not None
    mask = rle.decode(first.mask)  # type: ignore[arg-type]
    assert mask.shape == batch.image_sizes[0]
    assert mask[10:, : PADDED[1] // 2 - 4].all()
    assert not mask[:6].any()
    assert not mask[:, PADDED[1] // 2 + 4 :].any()
    (other,) = taught_drawings(taught(batch), batch, 1)
    assert other.mask is not None


def test_the_last_batch_is_drawn_once_before_a_validation(tmp_path: Path) -> None:
    seen: list[Batch] = []

    def teacher(average: Any, batch: Batch) -> PseudoMasks:
        seen.append(batch)
        return taught(batch)

    trainer: Any = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path, global_step=7, loggers=[])
    module: Any = SimpleNamespace(teacher=teacher, average=None, class_names=("person",))
    callback, batch = TeacherOverlays(num_images=1), tiny_batch([LEFT, RIGHT], [LEFT])
    callback.on_validation_start(trainer, module)
    assert not seen, "no step has been trained yet"
    callback.on_train_batch_end(trainer, module, None, batch, 0)
    for _ in range(2):
        callback.on_validation_start(trainer, module)
    assert len(seen) == 1
    assert len(seen[0].targets) == len(seen[0].pixels) == 1
    names = sorted(path.name for path in (tmp_path / "overlays" / "teacher").iterdir())
    assert names == ["latest.png", f"step0000007_00_{batch.image_ids[0]}.png"]
    panel = np.asarray(Image.open(tmp_path / "overlays" / "teacher" / names[1])).astype(int)
    half = (panel.shape[1] - 8) // 2
    assert (panel[:, :half] != panel[:, -half:]).any()


@pytest.mark.parametrize(("rank_zero", "teacher"), [(False, True), (True, False)])
def test_nothing_without_a_teacher_or_in_another_process(tmp_path: Path, rank_zero: bool, teacher: bool) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=rank_zero, default_root_dir=tmp_path, global_step=7, loggers=[])
    module: Any = SimpleNamespace(teacher=(lambda average, batch: taught(batch)) if teacher else None, average=None)
    callback = TeacherOverlays()
    callback.on_train_batch_end(trainer, module, None, tiny_batch([LEFT], []), 0)
    callback.on_validation_start(trainer, module)
    assert list(tmp_path.iterdir()) == []


def test_first_images_of_a_batch() -> None:
    batch = tiny_batch([LEFT], [RIGHT])
    first = first_images(batch, 1)
    assert first.image_ids == batch.image_ids[:1]
    assert torch.equal(first.clean_pixels, batch.clean_pixels[:1])
    assert first.padded_size == batch.padded_size
