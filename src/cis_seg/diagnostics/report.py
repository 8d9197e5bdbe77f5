"""Output of the findings as a table and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cis_seg.diagnostics.finding import Finding, Status

COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red"}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings as a table, or as plain lines if rich is missing."""
    try:
        _print_table(findings)
    except ImportError:
        for finding in findings:
            print("\n".join(f"{finding.status:8} {finding.check:14} {line}" for line in _lines(finding)))
    print(summary(findings))


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("", "check", Column("found, and what to do", overflow="fold"))  # a path may be long
    before = ""
    for finding in findings:
        name = "" if finding.check == before else finding.check
        cell = Text(finding.found) if not finding.remedy else Text.assemble(finding.found, "\n", (f"-> {finding.remedy}", "bold"))
        table.add_row(Text(finding.status, style=COLORS[finding.status]), name, cell)
        before = finding.check
    Console().print(table)


def _lines(finding: Finding) -> list[str]:
    return [*finding.found.splitlines(), *([f"-> {finding.remedy}"] if finding.remedy else [])]


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line of the report, such as ``2 problems, 1 warning``."""
    counts = Counter(finding.status for finding in findings)
    problems, warnings = counts[Status.PROBLEM], counts[Status.WARNING]
    if not problems and not warnings:
        return "no problems found"
    return f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}"


def write_json(path: Path, findings: Sequence[Finding]) -> None:
    """Write ``{"problems": n, "warnings": n, "findings": [{"check", "status", "found", "remedy"}]}``."""
    counts = Counter(finding.status for finding in findings)
    content: dict[str, Any] = {"problems": counts[Status.PROBLEM], "warnings": counts[Status.WARNING]}
    path.write_text(json.dumps(content | {"findings": [asdict(finding) for finding in findings]}, indent=1) + "\n", encoding="utf-8")
