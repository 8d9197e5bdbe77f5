"""Exceptions whose constructors build the sentence the user reads.

Every one is a ``ValueError``: the entry points print it as one message, without a traceback, and exit with 2.
"""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """A mistake the user can mend: what is wrong, where, what was expected and what to do.

    Args:
        problem: what is wrong, naming the culprit ("annotation 17 has a negative width").
        where: file, key or option in which it was found.
        expected: what would have been right.
        found: what was there instead.
        remedy: what the user can do about it.
    """

    def __init__(
        self, problem: str, *, where: object = None, expected: object = None, found: object = None, remedy: str | None = None
    ) -> None:
        parts = [("where", where), ("expected", expected), ("found", found), ("what to do", remedy)]
        lines = [problem, *(f"  {label}: {value}" for label, value in parts if value is not None)]
        # because JSON can hold half of a UTF-16 pair, and a log file cannot
        super().__init__("\n".join(lines).encode(errors="backslashreplace").decode())
        self.problem, self.found = problem, found  # for a list of many: one line each


class ConfigError(UserError):
    """An option that cannot work, or not together with another."""


class DataError(UserError):
    """A missing or damaged file, or an annotation that makes no sense."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another architecture."""


class RunError(UserError):
    """A training that cannot go on: losses that are no numbers, a process that died or hangs. It can be resumed."""


def listing(folder: Path, pattern: str = "*", most: int = 12) -> str:
    """What a folder contains, for the ``found`` of a message."""
    if not folder.is_dir():
        return "(no such folder)"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.glob(pattern))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "(nothing)"
