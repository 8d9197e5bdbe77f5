"""Locations and their neighbours: typed numbers and the loop."""

import pytest
import torch

import oracles
from cis_seg.ops.locations import level_locations, level_neighbours


def test_typed_numbers() -> None:
    locations = level_locations(2, 3, 8, "cpu")
    assert locations.dtype == torch.float32
    assert locations.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


@pytest.mark.parametrize(("h", "w", "stride"), [(1, 1, 128), (5, 2, 16), (3, 7, 1)])
def test_equals_loop(h: int, w: int, stride: int) -> None:
    assert level_locations(h, w, stride, "cpu").tolist() == [list(map(float, xy)) for xy in oracles.level_locations(h, w, stride)]


def test_neighbours_by_hand() -> None:
    # cells 10 11 12 over 13 14 15
    assert level_neighbours(2, 3, 10, "cpu").tolist() == [
        [-1, -1, -1, -1, 10, 11, -1, 13, 14],
        [-1, -1, -1, 10, 11, 12, 13, 14, 15],
        [-1, -1, -1, 11, 12, -1, 14, 15, -1],
        [-1, 10, 11, -1, 13, 14, -1, -1, -1],
        [10, 11, 12, 13, 14, 15, -1, -1, -1],
        [11, 12, -1, 14, 15, -1, -1, -1, -1],
    ]


def test_a_single_cell_has_no_neighbours() -> None:
    assert level_neighbours(1, 1, 7, "cpu").tolist() == [[-1, -1, -1, -1, 7, -1, -1, -1, -1]]
