"""Contested pixels: counts and marks agree with dense masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cis_seg.reports.figure4 import (
    LIGHT,
    Compared,
    change,
    contested_mask,
    contested_share,
    mark_contested,
    masks_of,
    mean_shares,
    most_changed,
)
from cis_seg.visualization.drawing import Drawing

SIZE = (40, 60)


def filled(x0: int, x1: int) -> dict[str, Any]:
    """Return the mask of columns ``x0`` to ``x1``."""
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[:, x0:x1] = 1
    return dict(coco_mask.encode(mask))


def drawing(x0: int, x1: int, *, crowd: bool = False) -> Drawing:
    return Drawing((x0, 0, x1, SIZE[0]), filled(x0, x1), score=0.9, crowd=crowd)


def compared(index: int, first: list[Drawing], second: list[Drawing]) -> Compared:
    return Compared(index, 100 + index, (first, second))


def test_contested_is_what_two_or_more_masks_cover() -> None:
    rng = np.random.default_rng(0)
    dense: NDArray[np.uint8] = (rng.random((5, *SIZE)) > 0.7).astype(np.uint8)
    codes = [coco_mask.encode(np.asfortranarray(mask)) for mask in dense]
    found = contested_mask(codes)
    assert found is not None
    np.testing.assert_array_equal(coco_mask.decode(found), dense.sum(axis=0) >= 2)
    assert contested_share(codes) == pytest.approx((dense.sum(axis=0) >= 2).sum() / (dense.sum(axis=0) >= 1).sum())


def test_nothing_is_contested_without_a_second_mask() -> None:
    assert contested_mask([]) is None
    assert contested_share([]) == contested_share([filled(0, 9)]) == contested_share([filled(0, 0), filled(0, 0)]) == 0


def test_only_the_contested_pixels_are_marked() -> None:
    view = np.full((2 * SIZE[0], 2 * SIZE[1], 3), (200, 40, 90), dtype=np.uint8)
    marked = mark_contested(view, [filled(0, 30), filled(20, 60)])
    changed = (marked != view).any(axis=2)
    assert changed[:, 40:60].all()
    assert not changed[:, :40].any()
    assert not changed[:, 60:].any()
    assert {tuple(pixel) for pixel in marked[:, 40:60].reshape(-1, 3).tolist()} == {LIGHT, (0, 0, 0), (110, 110, 110)}
    np.testing.assert_array_equal(mark_contested(view, [filled(0, 20), filled(20, 60)]), view)


def test_change_is_symmetric_and_ignores_pixels_contested_by_both() -> None:
    apart, together = [drawing(0, 20), drawing(20, 40)], [drawing(0, 30), drawing(20, 40)]
    assert change(compared(0, together, apart)) == change(compared(0, apart, together)) == pytest.approx(10 / 40)
    assert change(compared(0, together, together)) == change(compared(0, [], [])) == 0
    assert change(compared(0, together, [])) == pytest.approx(10 / 40)


def test_ignore_regions_are_not_contested() -> None:
    assert len(masks_of([drawing(0, 9), drawing(0, 60, crowd=True), Drawing((0, 0, 5, 5), None)])) == 1


def test_most_changed_images_come_first_and_ties_keep_their_order() -> None:
    apart, some, much = [drawing(0, 20), drawing(20, 40)], [drawing(0, 22), drawing(20, 40)], [drawing(0, 38), drawing(20, 40)]
    images = [compared(0, apart, apart), compared(1, some, apart), compared(2, apart, much), compared(3, some, apart)]
    assert [image.index for image in most_changed(images, 3)] == [2, 1, 3]
    first, second = mean_shares(images)
    assert first == pytest.approx((2 + 2) / 40 / 4)
    assert second == pytest.approx(18 / 40 / 4)
