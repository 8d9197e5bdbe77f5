"""The short version of the fault injection; ``make faults`` runs the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "faults.py"


@pytest.mark.slow
def test_nothing_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--short", "--json", str(tmp_path / "faults.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "faults.json").read_text())
    assert len(rows) >= 2
    assert all(row["nothing_lost"] for row in rows)
    assert "fault injection" in done.stdout


@pytest.mark.slow
def test_an_unknown_fault_is_refused() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--only", "earthquake"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "there is no fault 'earthquake'" in done.stderr
    assert "SIGTERM" in done.stderr
