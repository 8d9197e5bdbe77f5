"""debug=profile: a trace that opens, and a table whose parts are all there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runs import small_run

PARTS = ("backbone", "neck", "head", "mask branch", "mask head and losses", "optimiser")


def test_trace_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path, "debug=profile")
    trace = json.loads((run / "profile" / "trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"backbone", "neck", "head", "mask branch", "forward", "optimiser"} <= names
    shown = capsys.readouterr().err
    rows = {part: re.search(rf"│ {part} +│ +([-\d.]+) │ +([-\d.]+) │", shown) for part in PARTS}
    for part, row in rows.items():
        assert row is not None, part
        assert float(row.group(1)) > 0, part
        assert (float(row.group(2)) > 0) == (part != "optimiser"), part
