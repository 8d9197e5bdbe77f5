"""``python scripts/report.py RUNS... [--output FILE] [--figure PNG]``: finished runs as one self-contained HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cis_seg.errors import UserError


def main(arguments: Sequence[str] | None = None, prog: str = "python scripts/report.py") -> int:
    """Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes one self-contained HTML page about finished runs: training curves (from CSV logs), the tables of "
        "cis-seg tables, overlays, configs and their differences. It needs no network.",
        epilog="example: %(prog)s runs --figure figure/figure4.png --output report.html",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUNS",
        help="a run, a folder of its seeds, or the folder of all runs, as in cis-seg tables",
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

    from cis_seg.reports.groups import grouped
    from cis_seg.reports.html_page import page
    from cis_seg.reports.runs import find_runs

    try:
        runs, skipped = find_runs(args.runs)
        text = page(grouped(runs), skipped, args.figure)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text, encoding="utf-8")
    print(f"wrote {args.output} ({len(text) / 1e6:.1f} MB)")
    return 0
