"""Grids: locations and neighbours by hand and against loops."""

from __future__ import annotations

import pytest
import torch

import oracles
from cis_seg.ops.grids import gather_neighbours, level_locations, level_neighbours, neighbour_offsets, shift


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


def test_offsets_are_row_major_without_the_centre() -> None:
    assert neighbour_offsets(3, 2) == ((-2, -2), (-2, 0), (-2, 2), (0, -2), (0, 2), (2, -2), (2, 0), (2, 2))
    assert list(neighbour_offsets(5, 3)) == oracles.offsets(5, 3)
    for e, (dy, dx) in enumerate(neighbour_offsets(5, 1)):
        assert neighbour_offsets(5, 1)[23 - e] == (-dy, -dx)


@pytest.mark.parametrize(("size", "dilation"), [(2, 1), (1, 1), (3, 0), (-3, 1)])
def test_bad_neighbourhood_is_named(size: int, dilation: int) -> None:
    with pytest.raises(ValueError, match=f"odd size.*got size={size}, dilation={dilation}"):
        neighbour_offsets(size, dilation)


def test_shift_typed_numbers() -> None:
    x = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert shift(x, 0, 1).tolist() == [[2, 3, 0], [5, 6, 0]]
    assert shift(x, -1, -1).tolist() == [[0, 0, 0], [0, 1, 2]]
    assert shift(x, 5, 0).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert shift(x.bool(), 1, 0).tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 2), (5, 2)])
def test_gather_equals_loop(size: int, dilation: int) -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    gathered = gather_neighbours(x, size, dilation)
    assert gathered.shape == (2, size * size - 1, 3, 5, 4)
    for e, (dy, dx) in enumerate(oracles.offsets(size, dilation)):
        for i in range(5):
            for j in range(4):
                inside = 0 <= i + dy < 5 and 0 <= j + dx < 4
                expected = x[:, :, i + dy, j + dx] if inside else torch.zeros(2, 3)
                assert torch.equal(gathered[:, e, :, i, j], expected)
