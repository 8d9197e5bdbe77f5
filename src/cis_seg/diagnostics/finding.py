"""Findings of a check, and the conversion of an exception into one. Uses the standard library only, because others may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

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
