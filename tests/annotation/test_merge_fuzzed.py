"""Exports with anything in them: refused in our own words, or every person of the job accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cis_seg.annotation.exports import read_export
from cis_seg.annotation.job import Job
from cis_seg.annotation.merging import merge
from cis_seg.annotation.problems import as_text
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.errors import DataError

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "a\0b", "../x", 10**400, float("nan")]),
    st.lists(st.one_of(st.integers(-9, 99), st.floats(-9, 99), st.none()), max_size=8),
    st.lists(st.lists(st.floats(-9, 99), min_size=4, max_size=10), max_size=3),
    st.dictionaries(st.sampled_from(["size", "counts"]), st.lists(st.integers(-1, 5000), max_size=3), max_size=2),
)
KEYS = {
    "images": ["id", "file_name", "height", "width"],
    "annotations": ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"],
    "categories": ["id", "name"],
}
SPOILED = st.lists(
    st.sampled_from(sorted(KEYS)).flatmap(lambda part: st.tuples(st.just(part), st.integers(0, 4), st.sampled_from(KEYS[part]), JUNK)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=SPOILED)
def test_every_person_is_merged_dropped_or_reported(
    job: Job, export_content: dict[str, Any], tmp_path: Path, changes: list[tuple[str, int, str, Any]]
) -> None:
    content = json.loads(json.dumps(export_content))
    for part, place, key, value in changes:
        content[part][place % len(content[part])][key] = value
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(content))
    try:
        merged = merge(job, [read_export(path, job)], {})
    except DataError as error:
        pytest.fail(f"an entry stopped the whole file: {error}")
    missing = {number for problem in merged.problems if problem.kind == "missing" for number in problem.ids}
    unlisted = sum(problem.kind == "unlisted" for problem in merged.problems)
    assert merged.people - unlisted == len(job.person_ids() - missing)
    assert as_text(merged.problems).encode().count(b"\n  ") == len(merged.problems)
    if merged.people:
        path.write_text(json.dumps(merged.content))
        truth = GroundTruth(path)
        assert (truth.maskless, truth.dropped_parts) == (set(), 0)
        assert [a["id"] for a in truth.annotations] == list(range(1, len(truth.annotations) + 1))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(JUNK, st.dictionaries(st.sampled_from(sorted(KEYS)), JUNK)))
def test_file_that_is_not_coco(job: Job, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "junk.json"
    path.write_text(json.dumps(content))
    try:
        export = read_export(path, job)
    except DataError as error:
        said = str(error)
    else:  # lists without an entry
        said = "junk.json" if {problem.kind for problem in merge(job, [export], {}).problems} == {"missing"} else "somebody was found"
    assert "junk.json" in said
