"""CrowdHuman's metrics against CrowdDet's own numbers, a slow loop written from the definition, and numbers worked out by hand."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from cis_seg.coco.ground_truth import CrowdImage, CrowdTruth
from cis_seg.data.crowdhuman_truth import crowdhuman_truth
from cis_seg.evaluation.crowdhuman import (
    FALSE_PER_IMAGE,
    MOST_DETECTIONS,
    average_precision,
    compared,
    crowdhuman_metrics,
    jaccard_indices,
    maximum_matching,
    miss_rate,
)

Box = tuple[float, float, float, float]
SIZE = (100, 200)  # height, width


def found(image_id: int, box: Box, score: float = 0.9) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    return {"image_id": image_id, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}


def truth(*images: tuple[list[Box], list[Box]]) -> CrowdTruth:
    return CrowdTruth("full", {number: CrowdImage(SIZE, people, regions) for number, (people, regions) in enumerate(images)})


def values(ground_truth: CrowdTruth, results: list[dict[str, Any]]) -> list[float | None]:
    metrics = crowdhuman_metrics(ground_truth, results)
    return [metrics[f"crowdhuman/{name}/full"] for name in ("AP", "MR", "JI")]


# the definition in loops


def clip(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    x0, y0, x1, y1 = box
    return min(max(x0, 0), width - 1), min(max(y0, 0), height - 1), min(max(x1, 0), width), min(max(y1, 0), height)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def iou(a: Box, b: Box) -> float:
    union = area(a) + area(b) - shared(a, b)
    return shared(a, b) / union if union else 0.0


def is_inside(box: Box, regions: list[Box]) -> bool:
    return any(area(box) > 0 and shared(box, region) / area(box) > 0.5 for region in regions)


def slow_metrics(ground_truth: CrowdTruth, results: list[dict[str, Any]]) -> tuple[float, float, list[float]]:
    """AP, MR^-2 and the Jaccard index at each threshold."""
    images = []
    for number, image in ground_truth.images.items():
        boxes = [(entry["bbox"], entry["score"]) for entry in results if entry["image_id"] == number]
        detections = [(clip((x, y, x + w, y + h), image.size), score) for (x, y, w, h), score in boxes]
        people, regions = ([clip(box, image.size) for box in group] for group in (image.people, image.ignored))
        images.append((people, regions, sorted(detections, key=lambda one: -one[1])))
    flags = []
    for people, regions, detections in images:
        taken: set[int] = set()
        for box, score in detections:
            best, place = 0.5, None
            for other, person in enumerate(people):
                if other not in taken and iou(box, person) > best:
                    best, place = iou(box, person), other
            if place is not None:
                taken.add(place)
                flags.append((score, True))
            elif not is_inside(box, regions):
                flags.append((score, False))
    flags.sort(key=lambda one: -one[0])
    total = sum(len(people) for people, _, _ in images)
    curve, right = [], 0
    for count, (_, hit) in enumerate(flags, start=1):
        right += hit
        curve.append((right / total, right / count, (count - right) / len(images)))
    ap = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))
    misses = [next((1 - recall for recall, _, false in curve if false >= reference), 1 - curve[-1][0]) for reference in FALSE_PER_IMAGE]
    rate = math.exp(sum(map(math.log, misses)) / len(misses)) if all(misses) else 0.0
    return ap, rate, [slow_index(images, 0.1 * step) for step in range(10)]


def slow_index(images: list[Any], threshold: float) -> float:
    indices = []
    for people, regions, detections in images:
        boxes = [box for box, score in detections if score > threshold]
        weights = np.array([[overlap if (overlap := iou(box, person)) > 0.5 else 0.0 for person in people] for box in boxes])
        rows, columns = linear_sum_assignment(weights, maximize=True) if weights.size else ([], [])
        pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if weights[row, column] > 0]
        lone_people = [person for place, person in enumerate(people) if place not in {column for _, column in pairs}]
        lone_boxes = [box for place, box in enumerate(boxes) if place not in {row for row, _ in pairs}]
        m = len(people) - sum(is_inside(person, regions) for person in lone_people)
        n = len(boxes) - sum(is_inside(box, regions) for box in lone_boxes)
        if m or n:
            indices.append(len(pairs) / (m + n - len(pairs) + 1e-6))
    return sum(indices) / max(len(indices), 1)


def random_scene(seed: int) -> tuple[CrowdTruth, list[dict[str, Any]]]:
    """People who overlap, regions, boxes outside the image or without area, equal scores, and images without anybody or any detection."""
    rng = np.random.default_rng(seed)
    images, results = [], []
    for number in range(8):
        corners = rng.integers([-20, -20], [200, 100], (int(rng.integers(0, 9)), 2))
        people = [
            (float(x), float(y), float(x + w), float(y + h)) for (x, y), (w, h) in zip(corners, rng.integers(0, 60, (9, 2)), strict=False)
        ]
        x, y = rng.integers(0, 80, 2).tolist()
        images.append((people, [(x, y, x + 60, y + 50)] if number % 2 else []))
        for _ in range(int(rng.integers(0, 16))):
            source = people[int(rng.integers(len(people)))] if people and rng.random() < 0.7 else tuple(rng.uniform(0, 120, 4).tolist())
            x0, y0, x1, y1 = (value + float(rng.normal(0, 4)) for value in source)
            results.append(found(number, (x0, y0, max(x1, x0), max(y1, y0)), round(float(rng.random()), 1)))
    return truth(*images), results


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_loops(seed: int) -> None:
    ground_truth, results = random_scene(seed)
    ap, rate, indices = slow_metrics(ground_truth, results)
    assert values(ground_truth, results) == pytest.approx([100 * ap, 100 * rate, 100 * max(indices)], abs=1e-9)
    assert jaccard_indices(compared(ground_truth, results)) == pytest.approx(indices, abs=1e-12)
    assert 0 < ap < 1


@pytest.mark.parametrize("kind", ["full", "visible"])
def test_equals_crowddet(golden: Path, kind: str) -> None:
    """Numbers of CrowdDet's own evaluation, on 60 records; the file with them says how they were computed."""
    path = golden / "crowdhuman_metrics.odgt"
    content = json.loads(path.with_suffix(".json").read_text())
    ids = {json.loads(line)["ID"]: number for number, line in enumerate(path.read_text().splitlines())}
    results = [{"image_id": ids[entry["image"]], "bbox": entry["bbox"], "score": entry["score"]} for entry in content["detections"]]
    crowd = crowdhuman_truth(path, None, images=golden / "absent", boxes=kind).crowd
    assert crowd is not None
    theirs = content["metrics"][kind]
    metrics = crowdhuman_metrics(crowd, results)
    assert metrics == {f"crowdhuman/{name}/{kind}": pytest.approx(100 * theirs[name], abs=1e-8) for name in ("AP", "MR", "JI")}
    assert jaccard_indices(compared(crowd, results)) == pytest.approx(theirs["JI_by_threshold"], abs=1e-10)


ONE, TWO, FAR = (10.0, 10.0, 30.0, 60.0), (50.0, 10.0, 70.0, 60.0), (150.0, 10.0, 170.0, 60.0)


def test_curves_by_hand() -> None:
    hits = np.array([True, False, True, False])
    # recalls 1/4, 1/4, 2/4, 2/4 at precisions 1, 1/2, 2/3, 1/2: only the third step gains recall
    assert average_precision(hits, 4) == pytest.approx(1 / 4 * (1 / 2 + 2 / 3) / 2)
    # two images, so the false positives per image are 0, 0.5, 0.5, 1: eight references see the second or a later detection
    first, second, last = 3 / 4, 3 / 4, 2 / 4
    assert miss_rate(hits, 4, 2) == pytest.approx(math.exp((7 * math.log(second) + 2 * math.log(last)) / 9))
    assert first == second
    assert miss_rate(np.array([True]), 2, 1) == pytest.approx(0.5)  # the last detection where no reference is reached
    assert miss_rate(np.array([True, False]), 1, 1) == 0
    assert miss_rate(np.array([], dtype=bool), 3, 1) == 1
    assert average_precision(np.array([], dtype=bool), 3) == 0


def test_a_detection_in_a_region_is_ignored_and_one_beside_it_is_wrong() -> None:
    region = (100.0, 0.0, 140.0, 100.0)
    ground_truth = truth(([ONE, TWO], [region]))
    inside, half, mostly = (105.0, 5.0, 115.0, 25.0), (130.0, 0.0, 150.0, 50.0), (129.0, 0.0, 149.0, 50.0)
    right = [found(0, ONE, 0.9), found(0, TWO, 0.8)]
    alone = values(ground_truth, right)
    assert alone == [pytest.approx(50), 0, pytest.approx(100, abs=1e-3)]  # the curve starts at recall 1/2
    assert values(ground_truth, [*right, found(0, inside, 0.95), found(0, mostly, 0.95)]) == alone
    with_wrong = values(ground_truth, [*right, found(0, half, 0.85)])  # exactly half of it lies inside
    # one false positive per image is reached while one of two people is missed
    assert with_wrong == [pytest.approx(100 / 2 * (1 / 2 + 2 / 3) / 2), pytest.approx(50), pytest.approx(100 * 2 / 3, abs=1e-3)]


def test_a_person_wins_against_a_region_and_each_is_found_once() -> None:
    ground_truth = truth(([ONE], [(0.0, 0.0, 45.0, 100.0)]))
    # the second detection of the person lies in the region and is ignored, not wrong
    assert values(ground_truth, [found(0, ONE, 0.9), found(0, ONE, 0.8)]) == [0, 0, pytest.approx(100, abs=1e-3)]
    without = truth(([ONE], []))
    assert values(without, [found(0, ONE, 0.9), found(0, ONE, 0.8)])[2] == pytest.approx(100, abs=1e-3)  # at thresholds above 0.8
    assert jaccard_indices(compared(without, [found(0, ONE, 0.9), found(0, ONE, 0.8)]))[0] == pytest.approx(1 / 2, abs=1e-6)


def test_iou_must_exceed_a_half_and_the_better_score_chooses_first() -> None:
    half = (10.0, 10.0, 30.0, 35.0)  # IoU exactly 0.5
    assert values(truth(([ONE], [])), [found(0, half)]) == [0, 100, 0]
    near, shifted = (10.0, 10.0, 30.0, 58.0), (12.0, 10.0, 32.0, 60.0)
    # the better-scored detection takes its nearest person, so that the other one has only the second left
    ground_truth = truth(([ONE, shifted], []))
    assert values(ground_truth, [found(0, near, 0.9), found(0, ONE, 0.8)])[1] == 0


def test_equal_scores_count_in_the_order_of_images_and_results() -> None:
    ground_truth = truth(([ONE, TWO], []), ([ONE, TWO], []))
    wrong, right = found(0, FAR, 0.5), [found(1, ONE, 0.5), found(1, TWO, 0.5)]
    first = values(ground_truth, [*right, wrong])
    assert first == values(ground_truth, [wrong, *right])  # image 0 first in both
    assert first != values(ground_truth, [found(1, FAR, 0.5), found(0, ONE, 0.5), found(0, TWO, 0.5)])


def test_boxes_are_clipped_to_the_image_as_crowddet_does() -> None:
    person, cut = (150.0, 50.0, 260.0, 160.0), (150.0, 50.0, 200.0, 100.0)
    assert values(truth(([person], [])), [found(0, cut)])[1] == 0
    strip = (199.0, 50.0, 200.0, 100.0)  # what is left of a person beyond the border
    assert values(truth(([(230.0, 50.0, 260.0, 160.0)], [])), [found(0, strip)])[1] == 0


def test_maximum_weight_is_not_the_most_pairs() -> None:
    iou_of_chain = np.array([[0.51, 0.99, 0.0], [0.0, 0.51, 0.99], [0.0, 0.0, 0.51]])
    rows, columns = maximum_matching(iou_of_chain)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert [len(part) for part in maximum_matching(np.zeros((3, 0)))] == [0, 0]


def test_nothing_to_measure_and_nothing_found() -> None:
    assert values(truth(([], [ONE])), [found(0, ONE)]) == [None, None, None]
    assert values(truth(([ONE], []), ([], [])), []) == [0, 100, 0]


def test_the_best_detections_of_an_image_count(caplog: pytest.LogCaptureFixture) -> None:
    ground_truth = truth(([ONE], []))
    many = [found(0, FAR, 0.5)] * MOST_DETECTIONS
    assert values(ground_truth, [*many, found(0, ONE, 0.4)])[2] == 0
    assert "1 images have more" in caplog.text
    assert values(ground_truth, [*many[1:], found(0, ONE, 0.4)])[2] == pytest.approx(100 / MOST_DETECTIONS)
