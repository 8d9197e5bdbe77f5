"""What a person reads when a run is over."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cis_seg.evaluation.scores import print_report, print_scores, score_table

METRICS: dict[str, float | None] = {
    "segm/AP": 12.345,
    "segm/AP50": 30.0,
    "segm/AP75": None,
    "floor/box_AP50": 7.5,
    "overlap/mean_degree": None,
    "num_images": 20,
    "step": 400,
}


def _lines(metrics: dict[str, float | None]) -> list[list[str]]:
    """The table's cells, row by row."""
    console = Console(width=120, file=io.StringIO())
    console.print(score_table(metrics))
    rows = [line.replace("┃", "│").split("│") for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    return [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) > 2]


def test_table_of_held_out_scores() -> None:
    assert _lines(METRICS) == [
        ["", "held-out"],
        ["mask AP", "12.35"],
        ["mask AP50", "30.00"],
        ["baseline: filled ground-truth boxes, AP50", "7.50"],
    ]


def test_table_beside_the_training_images() -> None:
    rows = _lines(METRICS | {"train/segm/AP": 80.0, "train/segm/AP75": 70.0})
    assert rows[0] == ["", "held-out", "trained on"]
    assert rows[1:4] == [["mask AP", "12.35", "80.00"], ["mask AP50", "30.00", "-"], ["mask AP75", "-", "70.00"]]


def _run(folder: Path, *, picture: bool) -> Path:
    (folder / "overlays").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    if picture:
        (folder / "overlays" / "latest.png").touch()
    return folder


def test_several_categories() -> None:
    alone = {"segm/AP/person": 1.0, "segm/AP/crowd_none": 2.0, "bbox/AP/person": 3.0}
    several = alone | {"bbox/AP/dog": None, "segm/AP/dog": None, "bbox/AP/[b]at": 6.0, "segm/AP/[b]at": 5.0}
    printed = []
    for metrics in (alone, several):
        console = Console(width=80, file=io.StringIO())
        print_scores(console, metrics, title="", notes=[])
        printed.append([line.split() for line in console.file.getvalue().replace("│", "").splitlines()])  # type: ignore[attr-defined]
    assert not any("person" in line for line in printed[0])
    assert ["person", "1.00", "3.00", "[b]at", "5.00", "6.00"] in printed[1]
    assert ["dog", "-", "-"] in printed[1]
    assert not any("crowd_none" in line for line in printed[1])


@pytest.mark.parametrize("picture", [True, False])
def test_printed_report(picture: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a [long] name, with spaces and commas, that a narrow terminal cannot hold on one line"
    run = _run(folder / "seed0", picture=picture)
    assert print_report(run) == 12.345
    printed = capsys.readouterr()
    assert printed.out == "", "standard output belongs to the results"
    lines = printed.err.splitlines()
    assert lines[0] == f"{run} after 400 steps", "in one piece, its brackets are no markup"
    assert (f"ground truth and predictions: {run / 'overlays' / 'latest.png'}" in lines) == picture
    assert f"all metrics: {run / 'metrics.json'}" in lines, "in one piece, to be copied"


def test_run_without_a_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(tmp_path / "run", picture=False)
    (run / "metrics.json").write_text(json.dumps({"segm/AP": None, "step": 3}))
    assert print_report(run) is None
    assert "all metrics" in capsys.readouterr().err
