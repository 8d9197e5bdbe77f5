"""The command: tables on the screen; Markdown, CSV and a plot on disk."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path

import cv2
import pytest

from cis_seg.reports.groups import grouped
from cis_seg.reports.runs import find_runs
from cis_seg.reports.table_files import draw
from finished_runs import write_run

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tables.py"
main = runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for seed, without, with_ in ((0, 10.0, 12.0), (1, 20.0, 26.0)):
        write_run(folder, "x_finetune", seed, ap=without)
        write_run(folder, "x_finetune_overlap", seed, ap=with_, weight=2.0)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_output(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tables"
    assert main([str(runs), "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.out == (output / "tables.md").read_text(encoding="utf-8")
    assert "gain over x_finetune" in printed.out
    assert [line.rpartition("/")[2] for line in printed.err.splitlines()] == ["tables.md", "runs.csv", "groups.csv", "lambda.png"]

    rows = read(output / "runs.csv")
    assert [(row["name"], row["seed"], float(row["AP"])) for row in rows] == [
        ("x_finetune", "0", 10.0),
        ("x_finetune", "1", 20.0),
        ("x_finetune_overlap", "0", 12.0),
        ("x_finetune_overlap", "1", 26.0),
    ]
    assert rows[0]["path"] == str(runs / "x_finetune" / "seed0")
    assert (rows[0]["scored set"], rows[0]["test size"], rows[0]["area"]) == ("CIS.json", "480", "published")

    control, overlap = read(output / "groups.csv")
    assert (control["control"], control["AP gain"], control["AP gain pairs"]) == ("", "", "0")
    assert (overlap["control"], overlap["seeds"], overlap["lambda"], overlap["reduction"]) == ("x_finetune", "0 1", "2.0", "pairs")
    assert float(overlap["AP mean"]) == 19.0
    assert float(overlap["AP std"]) == pytest.approx(98**0.5)  # of 12 and 26
    assert float(overlap["AP gain"]) == 4.0  # of 2 and 6
    assert float(overlap["AP gain std"]) == pytest.approx(8**0.5)
    assert overlap["AP gain pairs"] == overlap["AP n"] == "2"


def test_the_plot_contains_curves(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "lambda.png"
    assert draw(grouped(find_runs([runs])[0]), path)
    image = cv2.imread(str(path))
    height, width, _ = image.shape
    panels = [image[:, k * width // 3 : (k + 1) * width // 3] for k in range(3)]
    for panel in panels:  # curves are blue, frames and letters grey
        assert ((panel[..., 0].astype(int) - panel[..., 2]) > 60).sum() > 200
    assert width > height


def test_no_plot_without_two_lambdas(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "x_finetune", 0)
    write_run(tmp_path / "runs", "y_finetune_overlap", 0, weight=2.0)
    assert main([str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["groups.csv", "runs.csv", "tables.md"]


def test_nothing_is_written_without_output(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    before = sorted(runs.rglob("*"))
    assert main([str(runs)]) == 0
    assert not list(empty.iterdir())
    assert sorted(runs.rglob("*")) == before


def test_user_errors_exit_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: no finished run found")
    assert str(tmp_path / "missing") in printed.err
