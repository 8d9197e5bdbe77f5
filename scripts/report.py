"""``python scripts/report.py RUNS... [--output FILE] [--figure PNG]``: the compared runs as one HTML page that needs no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError
from cis_seg.reports.html.page import page
from cis_seg.reports.tables.groups import grouped
from cis_seg.reports.tables.runs import find_runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after a message about the runs."""
    parser = argparse.ArgumentParser(
        description="One HTML page of finished runs: curves of their CSV logs, the tables of scripts/tables.py, overlays, configs and what "
        "differs between them. It opens by double click and fetches nothing.",
        epilog="example: python scripts/report.py runs --figure figure/figure4.png --output report.html",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUNS",
        help="a run, a folder of its seeds, or the folder of all runs, as in scripts/tables.py",
    )
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page (default: report.html)")
    parser.add_argument(
        "--figure",
        type=Path,
        action="append",
        default=[],
        metavar="PNG",
        help="a picture to show first, such as figure4.png; may be repeated",
    )
    args = parser.parse_args(arguments)
    try:
        runs, left_out = find_runs(args.runs)
        text = page(grouped(runs), left_out, args.figure)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text, encoding="utf-8")
    print(f"wrote {args.output} ({len(text) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
