"""Tries faults on small runs and prints what became of each: ``python scripts/faults.py [--short] [--only WORD] [--json FILE]``.

Every case lives in ``scripts/fault_cases``, one module a subject, as a ``Fault`` in its list ``FAULTS``. Exit code 1 where one lost
something.
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

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the small runs and the faults are those of the tests

from fault_cases import checkpoints, data, numbers, processes, signals
from fault_cases.frame import Fault, Outcome, Place

SUBJECTS: dict[str, list[Fault]] = {
    "checkpoints": checkpoints.FAULTS,
    "signals": signals.FAULTS,
    "processes": processes.FAULTS,
    "numbers": numbers.FAULTS,
    "data": data.FAULTS,
}
#: last lines of what the processes of a lost case have said
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
        sys.exit(f"no fault is called {arguments.only!r}; there are: {', '.join(f.name for faults in SUBJECTS.values() for f in faults)}")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = [_tried(subject, fault, Path(folder), number) for number, (subject, fault) in enumerate(chosen)]
    Console(width=None if sys.stdout.isatty() else 160).print(_table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(0 if all(row["nothing_lost"] for row in rows) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tries faults on small runs and prints what became of each.")
    parser.add_argument("--short", action="store_true", help="a few cases, each a minute at most")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose subject or name has this in it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args()


def _tried(subject: str, fault: Fault, folder: Path, number: int) -> dict[str, str | bool | float]:
    """One row of the table: an exception of the case is a failure too."""
    place = Place(folder / f"case{number}", folder / "shared")
    for path in (place.folder, place.shared):
        path.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        outcome = fault.case(place)
    except Exception as error:  # whatever a case did not expect
        traceback.print_exc()
        outcome = Outcome(f"{type(error).__name__}: {error}", nothing_lost=False)
    row = {"subject": subject, "fault": fault.name, "expected": fault.expected, "happened": outcome.happened}
    seconds = round(time.monotonic() - began, 1)
    if not outcome.nothing_lost and (place.folder / "said.txt").is_file():
        print("".join(place.said().splitlines(keepends=True)[-SHOWN:]), file=sys.stderr)
    print(f"{subject}: {fault.name}: {outcome.happened} ({seconds} s)", file=sys.stderr, flush=True)
    return row | {"nothing_lost": outcome.nothing_lost, "seconds": seconds}


def _table(rows: list[dict[str, str | bool | float]]) -> Table:
    table = Table("fault", "what happened", "nothing lost?", "s", title="faults tried and survived", title_justify="left")
    for row in rows:
        happened = row["happened"] if row["nothing_lost"] else f"{row['happened']}\n(expected: {row['expected']})"
        table.add_row(f"{row['subject']}: {row['fault']}", str(happened), "yes" if row["nothing_lost"] else "NO", str(row["seconds"]))
    return table


if __name__ == "__main__":
    main()
