"""What a run logged while it trained: its CSV files as one curve a figure."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from cis_seg.errors import DataError

#: step -> value, in the order of the steps
Curve = dict[int, float]

LOGS = "csv/version_*/metrics.csv"
STEP, IGNORED = "step", ("step", "epoch")


def read_curves(run: Path) -> dict[str, Curve]:
    """Every logged figure of a run by its name (``train/loss_box``, ``val/segm_AP`` ...); empty without a CSV log.

    A resumed run has a log for each start; where two speak of one step the later start's value counts.

    Raises:
        DataError: a log without a column of steps, or with a value that is no number.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run.glob(LOGS), key=lambda path: (len(path.parent.name), path.parent.name)):  # version_2 before version_10
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                _add(curves, row, where=f"{path}, line {line}")
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _add(curves: dict[str, Curve], row: dict[str, str], where: str) -> None:
    """One line of a log: most of its cells are empty, because every figure has its own rhythm."""
    try:
        step = int(float(row[STEP]))
        values = {name: float(text) for name, text in row.items() if name not in IGNORED and text}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a log cannot be read",
            where=where,
            expected="the CSV file as Lightning's CSVLogger writes it, with a column step",
            found=error,
            remedy="move the damaged log away: the page says then that there is none",
        ) from error
    for name, value in values.items():
        if math.isfinite(value):
            curves.setdefault(name, {})[step] = value
