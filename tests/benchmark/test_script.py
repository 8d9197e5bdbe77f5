"""``scripts/benchmark.py``: rows and loads as JSON, the table, an unknown row, and another program in turns."""

from __future__ import annotations

import json
import runpy
import sys
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


def peer(tmp_path: Path, code: str) -> list[str]:
    """Options that compare the smallest row with a script of ``code``."""
    script = tmp_path / "their step.py"
    script.write_text(code)
    return ["--device", "cpu", "--quick", "--rows", "projection_loss", "--turns", "3", "--peer", f"'{sys.executable}' '{script}'"]


@pytest.mark.slow  # a process imports torch
def test_another_program_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that takes 1, 2, 3 ... seconds, by its own account; the first call is not counted."""
    count = tmp_path / "count"
    code = f"path = {str(count)!r}\nn = int(open(path).read())\nopen(path, 'w').write(str(n + 1))\nprint('loading')\nprint(max(n, 0.5))"
    count.write_text("0")
    assert main([*peer(tmp_path, code), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["peer_ms"] == [1000, 2000, 3000]
    assert found["peer_median_ms"] == 2000
    assert len(found["ours_ms"]) == 3
    assert found["ratio"] == pytest.approx(2000 / sorted(found["ours_ms"])[1])
    assert "turn 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "the peer's command failed"),
        ("print('done in 3 s')", "found: 'done in 3 s'"),
        ("print(5.0)\nprint('nan')", "found: 'nan'"),
        ("print(-1)", "found: '-1'"),
        ("", "found: no output"),
    ],
)
def test_faulty_programs_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, words: str) -> None:
    assert main(peer(tmp_path, code)) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "their step.py" in message
    assert "what to do" in message


@pytest.mark.parametrize("command", ["nowhere/python step.py", "'unclosed", ""])
def test_a_program_that_cannot_start(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--quick", "--rows", "projection_loss", "--peer", command]) == 2
    message = capsys.readouterr().err
    assert "the peer's command cannot be started" in message
    assert "sh -c" in message


def test_a_program_is_compared_with_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*peer(tmp_path, ""), "--rows", "projection_loss,overlap_loss"]) == 2
    assert "one row at a time" in capsys.readouterr().err
    assert main([*peer(tmp_path, "print(1)"), "--turns", "1"]) == 2
    assert "expected: 3 to 15" in capsys.readouterr().err
