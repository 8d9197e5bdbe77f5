"""Findings of a check, the conversion of an exception into one, and their output as a table and as JSON.

Uses the standard library only, because others may be missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cis_seg.errors import UserError


class Status(StrEnum):
    """Severity of a finding; a problem would stop the run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    status: Status
    found: str
    remedy: str = ""


#: one result of a check: severity, what was found, what to do
Line = tuple[Status, str, str]
Check = Callable[[], Iterable[Line]]


def ok(found: str) -> Line:
    """Return a line without a remedy."""
    return Status.OK, found, ""


def warning(found: str, remedy: str) -> Line:
    """Return a line about something that makes the run slower or worse, or that the user may not expect."""
    return Status.WARNING, found, remedy


def problem(found: str, remedy: str) -> Line:
    """Return a line about something that would stop the run."""
    return Status.PROBLEM, found, remedy


def findings_of(name: str, check: Check) -> Iterator[Finding]:
    """Yield the findings of ``check``; an exception becomes the last finding."""
    try:
        for status, found, remedy in check():
            yield Finding(name, status, found, remedy)
    except Exception as error:  # any error of the machine or its libraries belongs in the report
        found, remedy = explained(error)
        yield Finding(name, Status.PROBLEM, found, remedy)


def explained(error: Exception) -> tuple[str, str]:
    """Return what an exception reports, and what to do about it."""
    if isinstance(error, ModuleNotFoundError):
        return f"the library {error.name} is missing", "install everything: pip install -e . -c constraints.txt"
    text = _message(error)
    if text is None:
        return f"this check failed: {type(error).__name__}: {error}", "fix what the message names; if it is a bug in cis_seg, report it"
    found, _, remedy = text.partition("\n  what to do: ")
    return found, remedy


def _message(error: Exception) -> str | None:
    """Return the message of our own errors and the explanation of Hydra's; None for any other exception."""
    if isinstance(error, UserError):
        return str(error)
    if not type(error).__module__.startswith(("hydra.", "omegaconf.", "yaml.")):
        return None
    from cis_seg.config.messages import explain  # imports Hydra

    return explain(error)


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
