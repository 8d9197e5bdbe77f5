"""The run's CSV log: one file for all its starts, with no row lost or doubled."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from cis_seg.runtime.atomic_files import append, patiently, write_atomically

Rows = Iterable[dict[str, str]]


class CsvLog(CSVLogger):
    """Lightning's CSV logger, but a file that is there goes on; every row is on the disk when ``save`` returns."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of ``metrics.csv``."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _CsvFile(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]  # Lightning's annotation names the base class


class _CsvFile(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self.metrics_keys = _header(self.path)

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the file of the last start."""

    def save(self) -> None:
        """Appends what was logged since the last call; a figure that is new gets its column first."""
        if not self.metrics:
            return
        columns = sorted(set(self.metrics_keys).union(*self.metrics))
        if columns != self.metrics_keys:
            whole = _text(columns, _rows(self.path), header=True)
            patiently(lambda: write_atomically(self.path, whole), self.path, len(whole))
            self.metrics_keys = columns
        rows = _text(columns, self.metrics, header=False)
        patiently(lambda: append(self.path, rows), self.path, len(rows))
        self.metrics = []


def rewind(path: Path, step: int, *, repeated: Sequence[str] = ()) -> None:
    """Drops what a log says about the time after ``step``, which a run that continues there logs again.

    Args:
        path: ``metrics.csv``; it may be missing.
        step: finished steps; the row of the n-th step has the number n - 1.
        repeated: beginnings of the names of figures that are logged again for this very step: the validation's, where it was not over.
    """
    if not path.is_file():
        return

    def stays(row: dict[str, str]) -> bool:
        number = int(row["step"])
        again = any(value for name, value in row.items() if name.startswith(tuple(repeated)))
        return number < step - 1 or (number == step - 1 and not again)

    content = _text(_header(path), filter(stays, _rows(path)), header=True)
    patiently(lambda: write_atomically(path, content), path, len(content))


def last_step(path: Path) -> int | None:
    """Finished steps at the end of a log; None where it has none."""
    steps = [int(row["step"]) + 1 for row in _rows(path)]
    return max(steps, default=None)


def _header(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a log: a last one without its line end was cut short."""
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
