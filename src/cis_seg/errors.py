"""Errors for the user. The entry points print them without a traceback and exit with 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Arguments = TypeVar("Arguments")


class UserError(ValueError):
    """A mistake that the user can fix.

    Args:
        problem: what is wrong, naming the item at fault ("annotation 17 has a negative width").
        where: file, key or option.
        expected: what would have been valid.
        found: the value that was found.
        remedy: what the user can do.
    """

    def __init__(
        self, problem: str, *, where: object = None, expected: object = None, found: object = None, remedy: str | None = None
    ) -> None:
        parts = [("where", where), ("expected", expected), ("found", found), ("what to do", remedy)]
        lines = [problem, *(f"  {label}: {value}" for label, value in parts if value is not None)]
        # JSON may hold half of a UTF-16 surrogate pair, which a log file cannot encode
        super().__init__("\n".join(lines).encode(errors="backslashreplace").decode())
        self.problem, self.found = problem, found  # for one-line lists of many errors
        self._without_place = "; ".join(part for part in lines if not part.startswith("  where: "))

    @property
    def one_line(self) -> str:
        """The message in one line, for lists below the name of the file."""
        return " ".join(self._without_place.encode(errors="backslashreplace").decode().split())


class ConfigError(UserError):
    """An option with an invalid value, or one that conflicts with another."""


class DataError(UserError):
    """A missing or corrupt file, or an invalid annotation."""


class CheckpointError(UserError):
    """A checkpoint that is missing, corrupt or of another architecture."""


class RunError(UserError):
    """A run that cannot continue (non-finite losses, a killed or hanging process). It can be resumed."""


def listing(folder: Path, pattern: str = "*", most: int = 12) -> str:
    """What a folder contains, for the ``found`` of a message."""
    if not folder.is_dir():
        return "(no such folder)"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.glob(pattern))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "(nothing)"


def exit_code(command: Callable[[Arguments], int | None], arguments: Arguments) -> int:
    """Run a command on its parsed arguments; return its exit code, or 2 after the message of a user's mistake or a failing file system."""
    try:
        return command(arguments) or 0
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
