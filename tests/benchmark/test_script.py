"""``scripts/benchmark.py``: rows and loads as JSON, the table, an unknown row."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"))["main"]


@pytest.mark.slow  # two processes import torch
def test_quick_rows_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--quick", "--rows", "projection_loss", "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert "projection_loss" in printed
    assert "CPU" in printed
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert {"name", "ours_ms", "baseline_ms", "ratio", "ours_peak_mb", "baseline_peak_mb"} <= row.keys()
    assert row["ours_ms"] > 0
    assert abs(row["ratio"] - row["baseline_ms"] / row["ours_ms"]) < 1e-2 * row["ratio"] + 1e-3
    assert row["difference"] <= 1e-5
    assert row["repeats"] >= 3


def test_unknown_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--rows", "pairwise"]) == 2
    message = capsys.readouterr().err
    assert "unknown row" in message
    assert "found: pairwise" in message


def test_quick_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--quick", "--loads", str(tmp_path / "loads.png"), "--json", str(tmp_path / "loads.json")]) == 0
    assert "mask branch" in capsys.readouterr().out
    assert (tmp_path / "loads.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "loads.json").read_text())
    assert [(*row["size"], row["people"]) for row in rows] == [(64, 96, 2), (64, 96, 4), (96, 128, 2), (96, 128, 4)]
    assert all(0 < row["ms"]["masks"] < row["total_ms"] for row in rows)
    assert all(row["total_ms"] == sum(row["ms"].values()) for row in rows)
