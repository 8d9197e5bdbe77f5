"""``python scripts/benchmark.py [--json FILE]``: time and peak memory against a textbook form of the same formulas."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from cis_seg.benchmark.measure import ROWS, Measured, measure
from cis_seg.benchmark.peer import TURNS, compare, write_compared
from cis_seg.benchmark.report import Load, loads, loads_table, machine, plot_loads, table, write_json, write_loads
from cis_seg.benchmark.rows import Setting
from cis_seg.errors import ConfigError, UserError

PEER = "instead: our step in turns with this command, which prints the seconds of one step of yours (default row: train_step_480)"
DEVICE = "device of both sides (default: a GPU if available)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        description="Measures time and peak memory of losses, mask head, data pipeline and training steps, against a textbook form of "
        "the same formulas, and checks that both agree. Takes about 15 minutes on two cores; run it on an idle machine.",
        epilog="example: python scripts/benchmark.py --json benchmark.json",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there, as a list of rows")
    parser.add_argument("--rows", metavar="NAME,NAME", help=f"only these of {', '.join(ROWS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu", help=DEVICE)
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to check that everything runs; the times are meaningless")
    parser.add_argument("--loads", type=Path, metavar="PLOT.png", help="instead: time by part for 5 to 320 people, three sizes")
    parser.add_argument("--peer", metavar="COMMAND", help=PEER)
    parser.add_argument("--turns", type=int, default=TURNS, help=f"with --peer: measurements of each side (default: {TURNS})")
    args = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if args.loads is not None:
        return _loads(args, console)
    try:
        if args.peer is not None:
            return _peer(args, console)
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


def _peer(args: argparse.Namespace, console: Console) -> int:
    names = _chosen(args.rows or "train_step_480")
    if len(names) > 1:
        raise ConfigError("one row at a time is compared with a command", where="--rows", expected="one name", found=args.rows)
    console.print(f"measuring {names[0]} and {args.peer} in turns on {machine(args.device)}", highlight=False)
    for found in compare(names[0], args.peer, device=args.device, quick=args.quick, turns=args.turns):
        console.print(f"turn {len(found.ours_ms)}: {found.ours_ms[-1]:.1f} ms against {found.peer_ms[-1]:.1f}", highlight=False)
    ours, peer = found.medians
    console.print(f"medians: {ours:.1f} ms against {peer:.1f}: the command takes {found.ratio:.2f} times as long", highlight=False)
    if args.json is not None:
        write_compared(args.json, found)
    return 0


def _loads(args: argparse.Namespace, console: Console) -> int:
    found: list[Load] = []
    for load in loads(Setting(args.device, args.quick)):
        found.append(load)
        console.print(f"{load.size[0]} x {load.size[1]}, {load.people} people: {load.total:.0f} ms", highlight=False)
    console.print(loads_table(found, args.device))
    plot_loads(args.loads, found, args.device)
    if args.json is not None:
        write_loads(args.json, found)
    return 0


def _chosen(names: str | None) -> list[str]:
    chosen = names.split(",") if names else list(ROWS)
    unknown = [name for name in chosen if name not in ROWS]
    if unknown:
        raise ConfigError("unknown row", where="--rows", expected=", ".join(ROWS), found=", ".join(unknown))
    return chosen


if __name__ == "__main__":
    sys.exit(main())
