"""Locations: typed numbers and the loop."""

import pytest
import torch

import oracles
from cis_seg.ops.locations import level_locations


def test_typed_numbers() -> None:
    locations = level_locations(2, 3, 8, "cpu")
    assert locations.dtype == torch.float32
    assert locations.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


@pytest.mark.parametrize(("h", "w", "stride"), [(1, 1, 128), (5, 2, 16), (3, 7, 1)])
def test_equals_loop(h: int, w: int, stride: int) -> None:
    assert level_locations(h, w, stride, "cpu").tolist() == [list(map(float, xy)) for xy in oracles.level_locations(h, w, stride)]
