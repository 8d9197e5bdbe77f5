"""Fault injection: ``python scripts/faults.py [--short] [--only WORD] [--json FILE]``.

Injects faults into small training runs and prints the outcome of each. The cases are in ``scripts/fault_cases``, one module per subject,
each a ``Fault`` in its module's list ``FAULTS``. The exit code is 1 if any run loses something.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # which define the small runs and the faults

from fault_cases import checkpoints, data, numbers, processes, signals
from fault_cases.frame import Fault, Outcome, Sandbox

SUBJECTS: dict[str, list[Fault]] = {
    "checkpoints": checkpoints.FAULTS,
    "signals": signals.FAULTS,
    "processes": processes.FAULTS,
    "numbers": numbers.FAULTS,
    "data": data.FAULTS,
}
#: lines of output shown for a failed case
SHOWN = 60


def main() -> None:
    """Entry point."""
    arguments = _arguments()
    chosen = [
        (subject, fault)
        for subject, faults in SUBJECTS.items()
        for fault in faults
        if (fault.short or not arguments.short) and arguments.only in f"{subject}: {fault.name}"
    ]
    if not chosen:
        names = ", ".join(fault.name for faults in SUBJECTS.values() for fault in faults)
        sys.exit(f"there is no fault {arguments.only!r}; choose from: {names}")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = [_run_case(subject, fault, Path(folder), number) for number, (subject, fault) in enumerate(chosen)]
    Console(width=None if sys.stdout.isatty() else 160).print(_table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(row["nothing_lost"] for row in rows) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Inject faults into small training runs and print the outcome of each.")
    parser.add_argument("--short", action="store_true", help="only a few cases, each of a minute at most")
    parser.add_argument("--only", default="", metavar="WORD", help="only cases with WORD in their subject or name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    return parser.parse_args()


def _run_case(subject: str, fault: Fault, folder: Path, number: int) -> dict[str, str | bool | float]:
    """Run one case and return its row of the table; an exception counts as a failure."""
    sandbox = Sandbox(folder / f"case{number}", folder / "shared")
    for path in (sandbox.folder, sandbox.shared):
        path.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        outcome = fault.case(sandbox)
    except Exception as error:  # not expected by the case
        traceback.print_exc()
        outcome = Outcome(f"{type(error).__name__}: {error}", nothing_lost=False)
    row = {"subject": subject, "fault": fault.name, "expected": fault.expected, "happened": outcome.happened}
    seconds = round(time.monotonic() - began, 1)
    if not outcome.nothing_lost and (sandbox.folder / "output.txt").is_file():
        print("".join(sandbox.output().splitlines(keepends=True)[-SHOWN:]), file=sys.stderr)
    print(f"{subject}: {fault.name}: {outcome.happened} ({seconds} s)", file=sys.stderr, flush=True)
    return row | {"nothing_lost": outcome.nothing_lost, "seconds": seconds}


def _table(rows: list[dict[str, str | bool | float]]) -> Table:
    table = Table("fault", "outcome", "nothing lost?", "s", title="fault injection", title_justify="left")
    for row in rows:
        happened = row["happened"] if row["nothing_lost"] else f"{row['happened']}\n(expected: {row['expected']})"
        table.add_row(f"{row['subject']}: {row['fault']}", str(happened), "yes" if row["nothing_lost"] else "NO", str(row["seconds"]))
    return table


if __name__ == "__main__":
    main()
