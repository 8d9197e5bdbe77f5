"""``scripts/benchmark.py``: the rows as JSON, the table, a wrong name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "160"})


@pytest.mark.slow
def test_quick_rows_and_json(tmp_path: Path) -> None:
    done = _run("--quick", "--rows", "projection_loss", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    assert "projection_loss" in done.stdout
    assert "CPU" in done.stdout
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert {"name", "ours_ms", "baseline_ms", "ratio", "ours_peak_mb", "baseline_peak_mb"} <= row.keys()
    assert row["ours_ms"] > 0
    assert abs(row["ratio"] - row["baseline_ms"] / row["ours_ms"]) < 1e-2 * row["ratio"] + 1e-3
    assert row["difference"] <= 1e-5
    assert row["repeats"] >= 3


def test_unknown_row_is_named() -> None:
    done = _run("--rows", "pairwise")
    assert done.returncode == 2
    assert "there is no such row" in done.stderr
    assert "found: pairwise" in done.stderr


def test_quick_loads(tmp_path: Path) -> None:
    done = _run("--quick", "--loads", str(tmp_path / "loads.png"), "--json", str(tmp_path / "loads.json"))
    assert done.returncode == 0, done.stderr
    assert "mask branch" in done.stdout
    assert (tmp_path / "loads.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "loads.json").read_text())
    assert [row["people"] for row in rows] == [2, 4, 2, 4]
    assert all(0 < row["ms"]["masks"] < row["total_ms"] for row in rows)
