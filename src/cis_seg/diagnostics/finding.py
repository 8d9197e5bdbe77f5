"""What a check found, and how a check that fails reports itself. Nothing but the standard library: it must work where nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from cis_seg.errors import UserError


class Status(StrEnum):
    """How bad it is; the first problem is where a run would end."""

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


#: what one check yields: how bad, what was found, what to do
Line = tuple[Status, str, str]
Check = Callable[[], Iterable[Line]]


def ok(found: str) -> Line:
    """Nothing to do."""
    return Status.OK, found, ""


def warning(found: str, remedy: str) -> Line:
    """A run works, but not as well as it could, or not as its user may think."""
    return Status.WARNING, found, remedy


def problem(found: str, remedy: str) -> Line:
    """A run would end here."""
    return Status.PROBLEM, found, remedy


def findings_of(name: str, check: Check) -> Iterator[Finding]:
    """The findings of ``check`` one by one; whatever it raises becomes the last of them."""
    try:
        for status, found, remedy in check():
            yield Finding(name, status, found, remedy)
    except Exception as error:  # every fault of a machine and of its libraries is what this command is there to report
        found, remedy = in_words(error)
        yield Finding(name, Status.PROBLEM, found, remedy)


def in_words(error: Exception) -> tuple[str, str]:
    """What an exception says, and what to do about it."""
    if isinstance(error, ModuleNotFoundError):
        return f"the library {error.name} is missing", "install everything: pip install -e . -c constraints.txt"
    text = _explained(error)
    if text is None:
        return f"this check failed: {type(error).__name__}: {error}", "mend what the message names; if it is our fault, report it"
    found, _, remedy = text.partition("\n  what to do: ")
    return found, remedy


def _explained(error: Exception) -> str | None:
    """Our own messages, and Hydra's in our words; None for any other exception."""
    if isinstance(error, UserError):
        return str(error)
    if not type(error).__module__.startswith(("hydra.", "omegaconf.", "yaml.")):
        return None
    from cis_seg.config.messages import explain  # only where Hydra is there

    return explain(error)
