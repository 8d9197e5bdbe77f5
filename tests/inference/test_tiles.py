"""Tiles cover the image, and the detections of all looks become one instance per person: against a loop over dense masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.config.schema import TileConfig
from cis_seg.data.transforms import TestTransform
from cis_seg.inference import tiles
from cis_seg.inference.tiles import Window, merged, tile_windows
from cis_seg.structures import Instances

Mask = NDArray[np.bool_]
SIZE = (90, 120)
TRANSFORM = TestTransform(size=40, max_size=60)


def instances(masks: Sequence[Mask], scores: Sequence[float], labels: Sequence[int], size: tuple[int, int]) -> Instances:
    """Detections with the tight boxes of their masks."""
    codes = [rle.encode(mask) for mask in masks]
    boxes = torch.tensor([rle.tight_box(code) for code in codes]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(boxes, torch.tensor(scores), torch.tensor(labels, dtype=torch.int64), tuple(codes), size)


def seen(people: Sequence[Mask], windows: Sequence[Window]) -> list[tuple[Window, Instances]]:
    """What a perfect detector finds in each window; person i has label 0 and a score that falls with i."""
    found = []
    for x0, y0, x1, y1 in windows:
        parts = [(mask[y0:y1, x0:x1], 0.9 - 0.01 * i) for i, mask in enumerate(people) if mask[y0:y1, x0:x1].any()]
        masks, scores = [mask for mask, _ in parts], [score for _, score in parts]
        found.append(((x0, y0, x1, y1), instances(masks, scores, [0] * len(parts), (y1 - y0, x1 - x0))))
    return found


def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> Mask:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray(((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 <= 1)


def decoded(found: Instances) -> Mask:
    return np.array([rle.decode(code) for code in found.masks], dtype=bool).reshape(-1, *found.image_size)


# ---------------------------------------------------------------- windows
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.33, 0.8])
@pytest.mark.parametrize("side", [(40, 30), (50, 90), (120, 17), (119, 89)])
def test_tiles_cover_the_image_with_the_overlap(side: tuple[int, int], overlap: float) -> None:
    windows = tile_windows(SIZE, TileConfig(f"{side[0]}x{side[1]}", overlap), TRANSFORM)
    assert len(windows) == len(set(windows)) > 1
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in windows} == {(min(side[0], SIZE[1]), min(side[1], SIZE[0]))}
    columns, rows = (sorted({(w[axis], w[axis + 2]) for w in windows}) for axis in (0, 1))
    assert windows == [(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(rows, columns)], "row by row"
    for spans, length, tile in ((columns, SIZE[1], side[0]), (rows, SIZE[0], side[1])):
        assert (spans[0][0], spans[-1][1]) == (0, length)
        assert all(first[1] - second[0] >= overlap * tile for first, second in pairwise(spans))
        fewer = len(spans) - 1  # one tile less would not reach across the axis
        assert fewer == 0 or fewer * tile - (fewer - 1) * int(np.ceil(overlap * tile)) < length


def test_auto_takes_the_size_of_the_network_input() -> None:
    auto = TileConfig("auto", 0.2)
    assert tile_windows((60, 90), auto, TRANSFORM) == [], "1.5 times the input"
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in tile_windows((62, 93), auto, TRANSFORM)} == {(60, 40)}
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in tile_windows((200, 100), auto, TRANSFORM)} == {(40, 60)}, "upright"
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in tile_windows((30, 500), auto, TRANSFORM)} == {(60, 30)}, "a panorama"
    assert tile_windows((30, 40), auto, TRANSFORM) == tile_windows(SIZE, TileConfig("120x90"), TRANSFORM) == []
    assert tile_windows((500, 500), TileConfig(), TRANSFORM) == []


# ---------------------------------------------------------------- merging
def test_person_on_a_seam_is_found_once_and_whole() -> None:
    """The second is whole in the first tile, the first and the third in none of the four; the fourth is at the corner of all."""
    people = [ellipse((60, 20), (30, 10)), ellipse((20, 20), (10, 10)), ellipse((20, 45), (8, 25)), ellipse((60, 50), (22, 24))]
    windows = tile_windows(SIZE, TileConfig("70x50", 0.1), TRANSFORM)
    assert len(windows) == 4
    for looks in (windows, [(0, 0, SIZE[1], SIZE[0]), *windows], windows[::-1]):
        result = merged(seen(people, looks), SIZE, 0.6)
        np.testing.assert_array_equal(decoded(result), people)
        assert result.scores.tolist() == pytest.approx([0.9, 0.89, 0.88, 0.87])
        for box, mask in zip(result.boxes.tolist(), people, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_cut_detection_loses_against_the_whole_one_of_any_look() -> None:
    """Also with a better score; a fragment of it only with a lower one; another class never."""
    person = ellipse((60, 45), (25, 30))
    whole, tile = (0, 0, 120, 90), (0, 0, 60, 90)
    part, arm = person[:, :60], person[:, :60].copy()
    arm[45:] = False

    def result(mask: Mask, score: float, label: int = 0) -> list[float]:
        found = [(whole, instances([person], [0.5], [0], SIZE)), (tile, instances([mask], [score], [label], (90, 60)))]
        return [round(value, 2) for value in merged(found, SIZE, 0.6).scores.tolist()]

    assert result(part, 0.9) == [0.5]
    assert result(arm, 0.4) == [0.5]
    assert result(arm, 0.9) == [0.9, 0.5]
    assert result(part, 0.4, label=1) == [0.5, 0.4]


def test_people_behind_each_other_stay_apart() -> None:
    """Their boxes on the seam are nearly the same, their masks are not."""
    front = ellipse((40, 55), (12, 30))
    behind = ellipse((48, 50), (14, 34)) & ~front
    result = merged(seen([front, behind], [(0, 0, 120, 90), *tile_windows(SIZE, TileConfig("60x60", 0.4), TRANSFORM)]), SIZE, 0.6)
    np.testing.assert_array_equal(decoded(result), [front, behind])


def test_nothing_is_merged_within_a_look_and_empty_masks_are_dropped() -> None:
    person, nothing = ellipse((30, 30), (10, 20)), np.zeros(SIZE, dtype=bool)
    found = [((0, 0, 120, 90), instances([person, person, nothing], [0.9, 0.8, 0.7], [0, 0, 0], SIZE))]
    assert len(merged(found, SIZE, 0.6).scores) == 2
    empty = merged([((0, 0, 120, 90), instances([], [], [], SIZE))], SIZE, 0.6)
    assert empty.boxes.shape == (0, 4)
    assert (empty.masks, empty.image_size) == ((), SIZE)


@pytest.mark.parametrize("seed", range(8))
def test_merge_equals_the_loop_over_dense_masks(seed: int) -> None:
    """Of a detector that misses, invents and shifts."""
    rng = np.random.default_rng(seed)
    windows = [(0, 0, 120, 90), *tile_windows(SIZE, TileConfig("60x50", 0.3), TRANSFORM)]
    people = [ellipse(tuple(rng.uniform((0, 0), (120, 90))), tuple(rng.uniform(6, 30, 2))) for _ in range(9)]
    found = []
    for x0, y0, x1, y1 in windows:
        masks, labels = [], []
        for person, mask in enumerate(people):
            part = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))[y0:y1, x0:x1]
            if part.any() and rng.random() < 0.8:
                masks.append(part & (rng.random(part.shape) < 0.97))
                labels.append(int(person % 3 == 0) if rng.random() < 0.9 else 1)
        scores = rng.uniform(0.2, 1, len(masks)).tolist()
        found.append(((x0, y0, x1, y1), instances(masks, scores, labels, (y1 - y0, x1 - x0))))
    result = merged(found, SIZE, 0.6)
    expected = loop_merge(found, 0.6)
    assert len(expected) < 0.6 * sum(len(one.scores) for _, one in found)
    assert result.scores.tolist() == [score for score, *_ in expected]
    assert result.labels.tolist() == [label for _, label, *_ in expected]
    np.testing.assert_array_equal(result.boxes, np.array([box for *_, box, _ in expected], dtype=np.float32))
    np.testing.assert_array_equal(decoded(result), [mask for *_, mask in expected])


def loop_merge(found: list[tuple[Window, Instances]], nms_threshold: float) -> list[tuple[float, int, list[float], Mask]]:
    """The rules of ``merged`` with sets of pixels of the whole image: (score, label, box, mask), best first."""
    rows: list[dict[str, object]] = []
    for look, ((x0, y0, x1, y1), one) in enumerate(found):
        area = np.zeros(SIZE, dtype=bool)
        area[y0:y1, x0:x1] = True
        for box, score, label, code in zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), one.masks, strict=True):
            mask = np.zeros(SIZE, dtype=bool)
            mask[y0:y1, x0:x1] = rle.decode(code)
            near = [
                box[0] < 0.02 * (x1 - x0),
                box[1] < 0.02 * (y1 - y0),
                x1 - x0 - box[2] < 0.02 * (x1 - x0),
                y1 - y0 - box[3] < 0.02 * (y1 - y0),
            ]
            cut = [near[0] and x0 > 0, near[1] and y0 > 0, near[2] and x1 < SIZE[1], near[3] and y1 < SIZE[0]]
            shifted = [box[0] + x0, box[1] + y0, box[2] + x0, box[3] + y0]
            if mask.any():
                rows.append({"looks": {look}, "area": area, "mask": mask, "box": shifted, "score": score, "label": label, "cut": cut})
    return [(row["score"], row["label"], row["box"], row["mask"]) for row in _loop(rows, nms_threshold)]  # type: ignore[misc]


def _loop(rows: list, nms_threshold: float) -> list:  # type: ignore[type-arg]
    def agreement(a: dict, b: dict) -> float:  # type: ignore[type-arg]
        common = a["area"] & b["area"]
        both, either = (a["mask"] & b["mask"]).sum(), ((a["mask"] | b["mask"]) & common).sum()
        return both / either if both and not a["looks"] & b["looks"] else 0.0

    def is_same(a: dict, b: dict) -> bool:  # type: ignore[type-arg]
        same_class = a["label"] == b["label"] and not a["looks"] & b["looks"]
        return bool(same_class and agreement(a, b) >= tiles.SAME)

    whole = [row for row in rows if not any(row["cut"])]
    cut = [row for row in rows if any(row["cut"])]
    cut = [row for row in cut if not any(is_same(row, other) for other in whole if 0 not in other["looks"])]
    groups = [[row] for row in cut]
    links = [(agreement(a, b), i, j) for i, a in enumerate(cut) for j, b in enumerate(cut) if i < j and is_same(a, b)]
    for _, i, j in sorted(links, key=lambda link: -link[0]):
        first = next(group for group in groups if any(row is cut[i] for row in group))
        second = next(group for group in groups if any(row is cut[j] for row in group))
        if first is not second and not set().union(*(r["looks"] for r in first)) & set().union(*(r["looks"] for r in second)):
            first.extend(second)
            groups = [group for group in groups if group is not second]
    for group in groups:
        lowest = [min(group, key=lambda row, side=side: row["box"][side]) for side in (0, 1)]
        ends = lowest + [max(group, key=lambda row, side=side: row["box"][side]) for side in (2, 3)]
        whole.append(
            {
                "looks": set().union(*(row["looks"] for row in group)),
                "area": np.logical_or.reduce([row["area"] for row in group]),
                "mask": np.logical_or.reduce([row["mask"] for row in group]),
                "box": [row["box"][side] for side, row in enumerate(ends)],
                "cut": [row["cut"][side] for side, row in enumerate(ends)],
                "score": max(row["score"] for row in group),
                "label": group[0]["label"],
            }
        )
    kept: list = []  # type: ignore[type-arg]
    for row in sorted(whole, key=lambda row: (any(row["cut"]), -row["score"])):
        for other in kept:
            if row["label"] != other["label"] or row["looks"] & other["looks"]:
                continue
            both = (row["mask"] & other["mask"]).sum()
            if any(row["cut"]):
                fragment = both >= tiles.FRAGMENT * row["mask"].sum() and row["score"] <= other["score"]
                repeated = agreement(row, other) >= tiles.SAME or fragment
            else:
                (a0, a1, a2, a3), (b0, b1, b2, b3) = row["box"], other["box"]
                common = max(min(a2, b2) - max(a0, b0), 0) * max(min(a3, b3) - max(a1, b1), 0)
                either = (a2 - a0) * (a3 - a1) + (b2 - b0) * (b3 - b1) - common
                repeated = both / (row["mask"] | other["mask"]).sum() >= tiles.SAME or common / either > nms_threshold
            if repeated:
                break
        else:
            kept.append(row)
    return sorted(kept, key=lambda row: -row["score"])
