"""Windows around masks: they contain them, on the map, and what is cut and pasted comes from and goes to the right place."""

from __future__ import annotations

import pytest
import torch

from cis_seg.ops.masks import windows_around

BOXES = [(0, 3, 0, 4), (5, 7, 8, 10), (1, 6, 3, 5), (0, 7, 0, 10), (6, 7, 0, 1), (2, 2, 3, 3)]  # rows, columns; the last one is empty


def masks() -> torch.Tensor:
    found = torch.zeros(len(BOXES), 7, 10, dtype=torch.bool)
    for mask, (top, bottom, left, right) in zip(found, BOXES, strict=True):
        mask[top:bottom, left:right] = True
    return found


@pytest.mark.parametrize(("at_once", "sizes"), [(1, [(1, 1), (2, 2), (3, 4), (5, 2), (7, 10)]), (3, [(3, 4), (7, 10)]), (9, [(7, 10)])])
def test_groups_of_similar_size(at_once: int, sizes: list[tuple[int, int]]) -> None:
    groups = windows_around(masks(), at_once=at_once)
    assert [(group.rows.shape[1], group.columns.shape[1]) for group in groups] == sizes
    assert sorted(i for group in groups for i in group.chosen.tolist()) == [0, 1, 2, 3, 4], "an empty mask has no window"


@pytest.mark.parametrize("at_once", [1, 2, None])
def test_cut_and_paste(at_once: int | None) -> None:
    maps = torch.rand(3, 2, 7, 10)
    inds = torch.tensor([0, 2, 1, 1, 0, 2])
    padded = torch.nn.functional.pad(maps, (2, 2, 2, 2), value=-1.0)
    copied = torch.full((6, 7, 10), torch.nan)
    for group in windows_around(masks(), at_once=at_once):
        windows, wide = group.cut(maps, inds[group.chosen]), group.cut(padded, inds[group.chosen], reach=2)
        for i, window, around, rows, columns in zip(group.chosen, windows, wide, group.rows, group.columns, strict=True):
            assert torch.equal(window, maps[inds[i]][:, rows][:, :, columns])
            top, left = int(rows[0]), int(columns[0])
            assert torch.equal(around, padded[inds[i]][:, top : top + len(rows) + 4, left : left + len(columns) + 4])
        group.paste(windows[:, 0], copied)
    for mask, copy, source in zip(masks()[:-1], copied, maps[inds, 0], strict=False):
        assert torch.equal(copy[mask], source[mask])
    assert copied[-1].isnan().all()


def test_no_masks() -> None:
    assert windows_around(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert windows_around(torch.zeros(2, 4, 5, dtype=torch.bool)) == []
