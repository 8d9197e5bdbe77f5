"""The location that speaks for a given box: best product of fit and score among those that FCOS allows, else the nearest."""

from __future__ import annotations

import torch

from cis_seg.inference.given_boxes import ANY_CLASS, BoxFits, fit_given_boxes
from cis_seg.ops.boxes import boxes_to_ltrb
from cis_seg.ops.grids import pyramid_locations
from cis_seg.structures import DensePredictions, Locations

SIZE, STRIDES, RANGES = (128, 160), (8, 16, 32, 64, 128), (64.0, 128.0, 256.0, 512.0)
BOX = [20.0, 20.0, 60.0, 60.0]  # centroid of its pixels 40: the locations 36 and 44 of P3 may learn it


def dense_of(predicted: dict[tuple[int, int, int], tuple[list[float], list[float]]]) -> DensePredictions:
    """A network that predicts, at (level, x, y), a box and a probability for each of two classes; elsewhere nothing near."""
    locations = pyramid_locations([(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in STRIDES], STRIDES, "cpu")
    count = len(locations.xy)
    scores, ltrb = torch.full((1, count, 2), 0.01), torch.full((1, count, 4), 0.01)
    for place, (box, probabilities) in predicted.items():
        at = where(locations, place)
        ltrb[0, at] = boxes_to_ltrb(locations.xy[at], torch.tensor(box)) / locations.strides[at]
        scores[0, at] = torch.tensor(probabilities)
    sure = torch.full((1, count), 50.0)  # centerness 1
    nothing = torch.zeros(1)
    return DensePredictions(scores.logit(), ltrb, sure, nothing, nothing, locations)


def where(locations: Locations, place: tuple[int, int, int]) -> int:
    level, x, y = place
    (found,) = ((locations.level_inds == level) & (locations.xy == torch.tensor([x, y])).all(dim=1)).nonzero().flatten().tolist()
    return int(found)


def fitted(dense: DensePredictions, boxes: list[list[float]], labels: list[int]) -> tuple[list[tuple[int, int, int]], BoxFits]:
    """(level, x, y) chosen for each box, and all that was found out."""
    fits = fit_given_boxes(dense, 0, torch.tensor(boxes), torch.tensor(labels), padded_size=SIZE, size_ranges=RANGES)
    chosen = [(int(dense.locations.level_inds[i]), *map(int, dense.locations.xy[i].tolist())) for i in fits.loc_inds.tolist()]
    return chosen, fits  # type: ignore[return-value]


def test_the_product_of_fit_and_score_decides() -> None:
    half = [20.0, 20.0, 60.0, 40.0]  # IoU 0.5 with the box
    dense = dense_of({(0, 36, 36): (half, [0.81, 0.01]), (0, 44, 36): (BOX, [0.16, 0.01]), (0, 44, 44): (half, [0.49, 0.01])})
    chosen, fits = fitted(dense, [BOX], [0])
    assert chosen == [(0, 36, 36)]  # 0.5 x sqrt(0.81) beats 1 x sqrt(0.16) and 0.5 x sqrt(0.49)
    torch.testing.assert_close(fits.confidence, torch.tensor([0.45]))
    assert not fits.fallback.any()


def test_only_the_box_s_own_locations_are_asked() -> None:
    perfect = (BOX, [0.99, 0.01])
    beside, other_level, own = (0, 52, 36), (1, 40, 40), (0, 44, 44)  # 52 is 12 = 1.5 strides from the centre, P4 is for larger boxes
    chosen, _ = fitted(dense_of({beside: perfect, other_level: perfect, own: (BOX, [0.04, 0.01])}), [BOX], [0])
    assert chosen == [own]


def test_the_score_is_that_of_the_box_s_class() -> None:
    dense = dense_of({(0, 36, 36): (BOX, [0.64, 0.01]), (0, 44, 44): (BOX, [0.01, 0.81])})
    chosen, fits = fitted(dense, [BOX, BOX, BOX], [0, 1, ANY_CLASS])
    assert chosen == [(0, 36, 36), (0, 44, 44), (0, 44, 44)]
    torch.testing.assert_close(fits.confidence, torch.tensor([0.8, 0.9, 0.9]))


def test_a_box_does_not_depend_on_its_neighbours() -> None:
    inner = [30.0, 30.0, 50.0, 50.0]  # would win every location of the larger box in training
    dense = dense_of({(0, 36, 36): (BOX, [0.64, 0.01]), (0, 44, 44): (inner, [0.64, 0.01])})
    chosen, fits = fitted(dense, [BOX, inner], [0, 0])
    assert chosen == [(0, 36, 36), (0, 44, 44)]
    _, alone = fitted(dense, [BOX], [0])
    torch.testing.assert_close(alone.confidence, fits.confidence[:1])


def test_box_without_a_location_uses_the_nearest_one_of_its_level() -> None:
    chosen, fits = fitted(dense_of({}), [[37.0, 37.0, 43.0, 43.0], [38.0, 30.0, 43.0, 35.0]], [0, 0])
    assert fits.fallback.tolist() == [True, True]
    assert fits.confidence.tolist() == [0, 0]
    assert chosen[0][0] == 0
    assert {chosen[0][1], chosen[0][2]} <= {36, 44}
    assert chosen[1] in [(0, 36, 36), (0, 44, 36), (0, 36, 28), (0, 44, 28)]


def test_no_boxes() -> None:
    fits = fit_given_boxes(dense_of({}), 0, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), padded_size=SIZE, size_ranges=RANGES)
    assert fits.loc_inds.shape == fits.confidence.shape == fits.fallback.shape == (0,)
