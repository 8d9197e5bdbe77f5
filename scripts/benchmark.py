"""``python scripts/benchmark.py [--json FILE]``: time and peak memory against the textbook form of the same formulas."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from cis_seg.benchmark.catalogue import ROWS
from cis_seg.benchmark.measure import Measured, measure
from cis_seg.benchmark.report import machine, table, write_json
from cis_seg.errors import ConfigError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after a message."""
    parser = argparse.ArgumentParser(description="Times and peak memory, ours against the textbook; both sides' numbers are compared.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--rows", metavar="NAME,NAME", help=f"only these of {', '.join(ROWS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny inputs: does everything run? The figures mean nothing")
    args = parser.parse_args(arguments)
    console = Console()
    try:
        names = _chosen(args.rows)
        console.print(f"measuring on {machine(args.device)}", highlight=False)
        rows: list[Measured] = []
        for name in names:
            rows.append(measure(name, ROWS[name], device=args.device, quick=args.quick))
            row = rows[-1]
            console.print(f"{name}: {row.ours_ms:.1f} ms against {row.baseline_ms:.1f}, {row.repeats} repeats", highlight=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(table(rows, args.device))
    if args.json is not None:
        write_json(args.json, rows)
    return 0


def _chosen(names: str | None) -> list[str]:
    chosen = names.split(",") if names else list(ROWS)
    unknown = [name for name in chosen if name not in ROWS]
    if unknown:
        raise ConfigError("there is no such row", where="--rows", expected=", ".join(ROWS), found=", ".join(unknown))
    return chosen


if __name__ == "__main__":
    sys.exit(main())
