"""Checks of single values of an annotation file."""

from __future__ import annotations

from typing import Any

import pytest

from cis_seg.coco.checks import counts_fit, is_area, is_coordinate, is_degenerate, is_id, is_polygon, is_side

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300, 10**400, 100_001, "1", None, True, [1]])
def test_invalid_coordinate_at_any_index_of_a_polygon(value: Any) -> None:
    assert not is_coordinate(value)
    sound = [1.5, 2, 3, 4.5, 5, 6]
    assert is_polygon(sound)
    for place in range(6):
        assert not is_polygon([*sound[:place], value, *sound[place + 1 :]])
    assert not is_degenerate([1, value])


def test_polygons_and_their_degenerate_parts() -> None:
    assert is_polygon([-3, 0, 100_000, 0, 5, 5])
    assert not is_polygon([1, 2, 3, 4, 5, 6, 7])  # half a point
    assert not is_polygon([1, 2, 3, 4])
    assert is_degenerate([1, 2, 3, 4])
    assert is_degenerate([])
    assert not is_degenerate([1, 2, 3, 4, 5, 6])
    assert not is_degenerate("ab")


def test_ids_sides_and_areas() -> None:
    assert is_id(0)
    assert is_id(-5)
    assert not any(map(is_id, (2**63, 1.0, True, None, "1", [1])))
    assert is_side(1)
    assert not any(map(is_side, (0, -3, 2.5, 10**6, None)))
    assert is_area(0.5)
    assert not any(map(is_area, (-1, NAN, INF, 10**400, "9", True)))


def test_run_lengths() -> None:
    assert counts_fit([2, 4], (2, 3))
    assert not any(counts_fit(counts, (2, 3)) for counts in ([2, 3], [-1, 7], [NAN], [6.0], None, 6, "é", "", "0T3"))
    assert counts_fit("06", (2, 3))
    assert counts_fit(b"06", (2, 3))
    assert not counts_fit(str(b"06"), (2, 3)), "the repr of bytes has quotes, which would be read as run lengths"
