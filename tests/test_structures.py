"""The typed values: what moves to a device together stays together."""

from __future__ import annotations

from dataclasses import replace

from tiny_model import PADDED, tiny_batch


def test_every_tensor_of_a_batch_moves_and_shared_pixels_stay_shared() -> None:
    batch = tiny_batch([[8.0, 8, 50, 60]], [], with_masks=True)
    moved = batch.to("meta")
    target = moved.targets[0]
    assert {t.device.type for t in (moved.pixels, target.boxes, target.labels, target.masks) if t is not None} == {"meta"}
    assert moved.clean_pixels is moved.pixels, "one copy instead of two"
    assert (moved.image_sizes, moved.positions, moved.padded_size) == (batch.image_sizes, batch.positions, PADDED)
    apart = replace(batch, clean_pixels=batch.pixels.clone()).to("meta")
    assert apart.clean_pixels is not apart.pixels
