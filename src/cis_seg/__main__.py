"""``cis-seg NAME ...``, also ``python -m cis_seg NAME ...``: every command under one name.

The commands are the ones of ``python -m cis_seg.NAME`` and ``scripts/``. Only the standard library is imported until one is chosen.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

from cis_seg import __version__
from cis_seg.config.command_names import ENTRIES

EXIT_USER_ERROR = 2  # as ``config.cli``, which imports Hydra
COMPLETION = ("-sc", "--shell-completion")  # Hydra's options for a shell


def main() -> None:
    """Run the command line of this process.

    Raises:
        SystemExit: with the exit code of the command, or 2 after a message about an unknown one.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMPLETION:
        _complete(arguments)
    elif name in ("--help", "-h", "help"):
        print(_listing())
    elif name == "--version":
        print(f"cis-seg {__version__}")
    elif name in ENTRIES:
        _run(name, arguments)
    else:
        close = difflib.get_close_matches(name, ENTRIES, n=1)
        remedy = f"did you mean cis-seg {close[0]}?" if close else "cis-seg alone lists the commands"
        print(f"error: there is no command {name}\n  expected: one of {', '.join(ENTRIES)}\n  what to do: {remedy}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR)


def _run(name: str, arguments: Sequence[str]) -> None:
    target, app = ENTRIES[name].target, f"cis-seg {name}"
    if "." in target:
        raise SystemExit(import_module(target).main(arguments, prog=app))
    from cis_seg.config.commands import start  # imported here because cis-seg doctor works without Hydra

    sys.argv[1:] = arguments
    start(target, app=app)


def _listing() -> str:
    lines = [f"  {name.ljust(12)}{entry.summary}" for name, entry in ENTRIES.items()]
    head = "Instance masks of people in crowds, learned from boxes.\n\n  cis-seg NAME ...        cis-seg NAME --help explains a command\n"
    return "\n".join([head, *lines])


def _complete(arguments: Sequence[str]) -> None:
    """Answer a shell: the commands, or what Hydra suggests for the overrides of one."""
    from cis_seg.config.commands import start

    if not arguments or not arguments[0].startswith("query="):
        return start("train")  # install and uninstall do not depend on the command
    typed = re.match(r"\s*\S+\s+(\S+)\s+(.*)", os.environ.get("COMP_LINE", ""))
    if typed is None:
        print("\n".join(ENTRIES))
    elif typed[1] in ENTRIES and "." not in ENTRIES[typed[1]].target:
        os.environ["COMP_LINE"] = f"cis-seg {typed[2]}"
        start(ENTRIES[typed[1]].target)
    return None


if __name__ == "__main__":
    main()
