"""The run's CSV log: one file for all starts, without lost or duplicate rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from cis_seg.runtime.atomic_files import append, retry_while_disk_full, write_atomically

Rows = Iterable[dict[str, str]]


class CsvLog(CSVLogger):
    """Lightning's CSV logger, but an existing file is continued, and every row is on the disk when ``save`` returns.

    Lightning's own writer deletes the file of the last start (Lightning#19432, #19446).
    """

    _file: _CsvFile | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> _CsvFile:
        """The writer of ``metrics.csv``."""
        if self._file is None:
            self._file = _CsvFile(Path(self.log_dir, "metrics.csv"))
        return self._file

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left at the end of a run."""
        if self._file is not None:
            self.save()


class _CsvFile:
    """The part of Lightning's ``ExperimentWriter`` that its logger calls."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.columns = path, _header(path)
        self.metrics: list[dict[str, float]] = []

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Do nothing: the run's config.yaml has them."""

    def log_metrics(self, metrics: dict[str, Tensor | float], step: int) -> None:
        """Keep a row until ``save``."""
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self.metrics.append(row | {"step": step})

    def save(self) -> None:
        """Append what was logged since the last call; a new metric gets its column first."""
        if not self.metrics:
            return
        columns = sorted(set(self.columns).union(*self.metrics))
        if columns != self.columns:
            whole = _text(columns, _rows(self.path), header=True)
            retry_while_disk_full(lambda: write_atomically(self.path, whole), self.path, len(whole))
            self.columns = columns
        rows = _text(columns, self.metrics, header=False)
        retry_while_disk_full(lambda: append(self.path, rows), self.path, len(rows))
        self.metrics = []


def rewind(path: Path, step: int, *, repeated: Sequence[str] = ()) -> None:
    """Remove the rows after ``step``, which a resumed run logs again.

    Args:
        path: ``metrics.csv``; it may be missing.
        step: completed steps; the row of the n-th step has the number n - 1.
        repeated: prefixes of metrics that are logged again for ``step`` itself: those of a validation that was not completed.
    """
    if not path.is_file():
        return

    def kept(row: dict[str, str]) -> bool:
        number = int(row["step"])
        again = any(value for name, value in row.items() if name.startswith(tuple(repeated)))
        return number < step - 1 or (number == step - 1 and not again)

    content = _text(_header(path), filter(kept, _rows(path)), header=True)
    retry_while_disk_full(lambda: write_atomically(path, content), path, len(content))


def last_step(path: Path) -> int | None:
    """Return the number of completed steps at the end of a log; None if it has no rows."""
    steps = [int(row["step"]) + 1 for row in _rows(path)]
    return max(steps, default=None)


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a log; a last row without a line end is incomplete."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def _text(columns: Sequence[str], rows: Rows | list[dict[str, float]], *, header: bool) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
