"""The training curves of a run, read from its CSV logs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from cis_seg.errors import DataError

#: step -> value, ordered by step
Curve = dict[int, float]

LOGS = "csv/version_*/metrics.csv"
STEP, NOT_CURVES = "step", ("step", "epoch")


def read_curves(run: Path) -> dict[str, Curve]:
    """Return the logged values of a run by name (``train/loss_box``, ``val/segm_AP`` ...); empty if there is no CSV log.

    A run that was resumed may have several logs. If two of them contain the same step, the later log wins.

    Raises:
        DataError: a log has no step column, or a value is not a number.
    """
    curves: dict[str, Curve] = {}
    for path in sorted(run.glob(LOGS), key=lambda path: (len(path.parent.name), path.parent.name)):  # version_2 before version_10
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                _add(curves, row, where=f"{path}, line {line}")
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _add(curves: dict[str, Curve], row: dict[str, str], where: str) -> None:
    """Add one row of a log. Most cells are empty, because values are logged at different intervals."""
    try:
        step = int(float(row[STEP]))
        values = {name: float(text) for name, text in row.items() if name not in NOT_CURVES and text}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a log cannot be read",
            where=where,
            expected="a CSV file as written by Lightning's CSVLogger, with a step column",
            found=error,
            remedy="move the corrupt log away; the page then reports that the run has none",
        ) from error
    for name, value in values.items():
        if math.isfinite(value):
            curves.setdefault(name, {})[step] = value
