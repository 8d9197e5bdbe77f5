"""``python -m cis_seg.replay run/bad_steps/step000123.pt``: recompute a skipped step and show where it becomes non-finite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python -m cis_seg.replay") -> int:
    """Return the exit code: 0, or 2 after a message about the file."""
    parser = argparse.ArgumentParser(prog=prog, description="Recompute a skipped step of a training run.")
    parser.add_argument("file", type=Path, metavar="step000123.pt", help="a file of a run's bad_steps folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    args = parser.parse_args(arguments)

    from rich.console import Console

    from cis_seg.commands.replay import print_replay, replay

    try:
        print_replay(replay(args.file, args.device), Console(width=None if sys.stdout.isatty() else 160, highlight=False))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
