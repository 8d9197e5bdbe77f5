"""Which images are taken, and the reason for each that is left."""

from __future__ import annotations

from typing import Any

import pytest

from cis_seg.annotation.selection import QUALIFIED, TAKEN, Criteria, Verdict, draw, judge

IMAGE = {"id": 7, "file_name": "273271,c9db.jpg", "height": 500, "width": 600}
CLOSE = [[0, 0, 100, 200], [50, 0, 100, 200], [300, 0, 100, 200], [350, 0, 100, 200]]  # two pairs of IoU 1/3


def entry(box: list[int], *, crowd: int = 0, full: Any = None) -> dict[str, Any]:
    return {"iscrowd": crowd, "bbox": box, "vbox": box, "fbox": full or box}


def reason(boxes: list[list[int]], regions: int = 0, **criteria: Any) -> str:
    annotations = [*map(entry, boxes), *(entry([0, 0, 9, 9], crowd=1) for _ in range(regions))]
    return judge(IMAGE, annotations, Criteria(**criteria)).reason


@pytest.mark.parametrize(
    ("boxes", "criteria", "expected"),
    [
        (CLOSE, {}, QUALIFIED),
        (CLOSE[:2], {}, "too_few"),
        (CLOSE[:3], {"touching": 0.67}, "apart"),
        (CLOSE[:3], {"touching": 0.66}, QUALIFIED),
        (CLOSE * 3, {}, "too_many"),
        (CLOSE * 3, {"max_people": 12}, QUALIFIED),
        (CLOSE, {"min_iou": 0.34}, "apart"),
        (CLOSE, {"min_iou": 0.33}, QUALIFIED),
        (CLOSE, {"min_side": 501}, "too_small"),
        (CLOSE, {"min_side": 500}, QUALIFIED),
        ([], {"min_people": 1}, "too_few"),
        ([CLOSE[0]], {"min_people": 1}, "apart"),
        ([CLOSE[0]], {"min_people": 1, "touching": 0.0}, QUALIFIED),
    ],
)
def test_every_criterion(boxes: list[list[int]], criteria: dict[str, Any], expected: str) -> None:
    assert reason(boxes, **criteria) == expected


def test_ignore_regions_are_not_people() -> None:
    assert reason(CLOSE[:2], regions=5) == "too_few"
    assert reason(CLOSE, regions=2, max_regions=1) == "too_many_regions"
    assert reason(CLOSE, regions=1, max_regions=1) == QUALIFIED


def test_full_boxes_may_touch_where_visible_ones_do_not() -> None:
    people = [entry([200 * i, 0, 100, 200], full=[200 * i, 0, 250, 200]) for i in range(3)]
    assert judge(IMAGE, people, Criteria()).reason == "apart"
    verdict = judge(IMAGE, people, Criteria(iou_boxes="full"))
    assert (verdict.reason, verdict.touching, verdict.largest_iou) == (QUALIFIED, 1, pytest.approx(50 / 450, abs=1e-4))


@pytest.mark.parametrize("box", [None, "box", [1, 2, -3, 4], [1, 2, float("nan"), 4], [1, 2, 3]])
def test_invalid_full_boxes(box: Any) -> None:
    people = [entry(box) for box in CLOSE]
    people[1]["fbox"] = box
    verdict = judge(IMAGE, people, Criteria(iou_boxes="full"))
    assert verdict.reason == "unusable_box"
    assert "person 1" in verdict.why
    assert judge(IMAGE, people, Criteria()).reason == QUALIFIED  # full boxes are not looked at


def test_verdict_contains_the_measurements() -> None:
    verdict = judge(IMAGE, [entry(box) for box in CLOSE[:3]], Criteria())
    assert verdict == Verdict(7, "273271,c9db.jpg", QUALIFIED, "2 of 3 people touch another", 3, 0, 0.6667, 0.3333)


def fit(number: int, reason: str = QUALIFIED) -> Verdict:
    return Verdict(number, f"{number}.jpg", reason, "")


def taken(verdicts: list[Verdict]) -> list[int | None]:
    return [verdict.line for verdict in verdicts if verdict.reason == TAKEN]


def test_a_larger_count_keeps_the_images_of_a_smaller_one() -> None:
    verdicts = [fit(number) for number in range(40)]
    few, many, every = (taken(draw(verdicts, count, 3, lambda name: None)) for count in (10, 25, None))
    assert (len(few), len(many), every) == (10, 25, list(range(40)))
    assert set(few) < set(many)
    assert few == sorted(few)  # type: ignore[type-var]
    assert few == taken(draw(verdicts, 10, 3, lambda name: None))
    assert few != taken(draw(verdicts, 10, 4, lambda name: None))


def test_corrupt_images_are_replaced_in_the_sample() -> None:
    verdicts = [fit(0), fit(1, "apart"), fit(2), fit(3)]
    drawn = draw(verdicts, 2, 0, lambda name: "cut short" if name == "2.jpg" else None)
    assert [(verdict.line, verdict.reason) for verdict in drawn if verdict.line != 2] == [(0, TAKEN), (1, "apart"), (3, TAKEN)]
    found = drawn[2].reason, drawn[2].why
    assert found in {("unreadable", "cut short"), ("not_drawn", "")}  # it may stand behind the others
    assert [verdict.reason for verdict in draw([fit(2)], 1, 0, lambda name: "cut short")] == ["unreadable"]
