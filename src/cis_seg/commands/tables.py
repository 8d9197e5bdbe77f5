"""``python scripts/tables.py RUNS... [--output DIR]``: the paper's tables, and tables of all other runs, from finished runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/tables.py") -> int:
    """Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Prints Tables 1 and 2 of the paper from finished runs: mean and standard deviation over seeds, the paper's "
        "numbers beside ours, and the gain of OverlapLoss over its control. Runs of other experiments get a separate table.",
        epilog="example: %(prog)s runs --output tables",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUNS",
        help="a run, a folder of its seeds, or the folder of all runs; a folder written by evaluate is read only if given explicitly",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write tables.md, runs.csv, groups.csv and lambda.png there")
    args = parser.parse_args(arguments)

    from cis_seg.reports.groups import grouped
    from cis_seg.reports.markdown_tables import document
    from cis_seg.reports.runs import find_runs
    from cis_seg.reports.table_files import write

    try:
        runs, skipped = find_runs(args.runs)
        groups = grouped(runs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = document(groups, skipped)
    print(text, end="")
    for path in write(args.output, text, groups) if args.output is not None else ():
        print(f"wrote {path}", file=sys.stderr)
    return 0
