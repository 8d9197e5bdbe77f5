"""Boxes: the encode / decode law, clipping, the raster's closed form against a drawn canvas, centerness."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from cis_seg.ops.boxes import boxes_to_ltrb, boxes_touch, centerness_targets, has_area, ltrb_to_boxes, rasterised_centers
from golden_arrays import isolated_arrays

eighths = st.integers(-80, 320).map(lambda n: n / 8)  # exact in float32, so the law holds to the last bit


@given(points=st.lists(st.tuples(*[eighths] * 6), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_encode_and_decode_are_inverse(points: list[tuple[float, ...]]) -> None:
    numbers = torch.tensor(points)
    locations, boxes = numbers[:, :2], numbers[:, 2:]
    assert torch.equal(ltrb_to_boxes(locations, boxes_to_ltrb(locations, boxes)), boxes)
    assert torch.equal(boxes_to_ltrb(locations, ltrb_to_boxes(locations, boxes)), boxes)


def test_ltrb_typed_numbers_and_broadcast() -> None:
    locations = torch.tensor([[10.0, 20.0], [0.0, 0.0]])
    ltrb = boxes_to_ltrb(locations[:, None], torch.tensor([[4.0, 5.0, 30.0, 50.0]])[None])
    assert ltrb.tolist() == [[[6, 15, 20, 30]], [[-4, -5, 30, 50]]]


def test_has_area() -> None:
    boxes = torch.tensor([[0.0, 0, 90, 60], [90, 10, 90, 20], [1, 2, 3, 2], [1, 2, 0, 4]])
    assert has_area(boxes).tolist() == [True, False, False, False]
    assert has_area(torch.zeros(0, 4)).shape == (0,)


def test_boxes_that_share_an_edge_or_a_corner_touch() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 4], [8, 0, 12, 4], [8, 4, 9, 9], [8.5, 0, 9, 9]])
    assert boxes_touch(boxes[:1], boxes).tolist() == [[True, True, True, False]]


@given(boxes=st.lists(st.tuples(*[st.floats(0, 50, width=32)] * 4), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_raster_centre_is_the_drawn_canvas_centroid(boxes: list[tuple[float, ...]]) -> None:
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    centers = rasterised_centers(torch.tensor(ordered), (32, 40)).tolist()
    for box, center in zip(ordered, centers, strict=True):
        box32 = tuple(torch.tensor(box).tolist())
        expected = oracles.centroid(oracles.draw_box(box32, 32, 40))
        if expected is None:
            assert all(map(math.isnan, center))
        else:
            assert center == pytest.approx(expected, abs=1e-5)


def test_raster_centre_typed_numbers() -> None:
    boxes = torch.tensor([[8.0, 8, 40, 44], [0, 0, 0.6, 0.7], [10.9, 10.9, 43.1, 43.1], [200, 20, 230, 60], [95, 63, 96, 64]])
    centers = rasterised_centers(boxes, (64, 96))
    assert centers[:3].tolist() == [[24, 26], [0, 0], [26.5, 26.5]]
    assert centers[3].isnan().all()  # outside the canvas
    assert centers[4].tolist() == [95, 63]  # cut at the canvas' border


def test_centerness_against_loop_and_typed_reference_numbers() -> None:
    ltrb = torch.tensor([[2.401709, 3.3911846, 3.795641, 1.1961212], [0.8100691, 0.4584396, 0.017793665, 3.5813165]])
    torch.testing.assert_close(centerness_targets(ltrb), torch.tensor([0.47242135, 0.053026307]), rtol=1e-6, atol=0)
    random = torch.rand(20, 4, dtype=torch.float64) + 0.01
    assert centerness_targets(random).tolist() == pytest.approx([oracles.centerness(*row) for row in random.tolist()])


def test_centerness_of_an_empty_input_is_zero() -> None:
    assert centerness_targets(torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 1]])).tolist() == [0, 0, 0]


def test_centerness_golden(golden) -> None:
    ltrb, expected = isolated_arrays(golden, "iou_target", "ctrness_target")
    torch.testing.assert_close(centerness_targets(ltrb), expected, rtol=1e-6, atol=1e-7)
