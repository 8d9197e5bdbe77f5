"""One log for all starts of a run."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest

from cis_seg.runtime import atomic_files as writing
from cis_seg.training.csv_log import CsvLog, last_step, rewind


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def logged(folder: Path, *metrics: dict[str, float], first: int = 0) -> Path:
    """One start of a run: a row a step, from step ``first``."""
    log = CsvLog(folder, name="csv", version=0)
    for step, values in enumerate(metrics, start=first):
        log.log_metrics(dict(values), step=step)
        log.save()
    return folder / "csv" / "version_0" / "metrics.csv"


def test_resumed_run_appends_to_the_same_log(tmp_path: Path) -> None:
    logged(tmp_path, {"a": 1.0}, {"a": 2.0})
    path = logged(tmp_path, {"b": 3.0, "a": 4.0}, first=2)
    assert rows(path) == [{"step": "0", "a": "1.0"}, {"step": "1", "a": "2.0"}, {"step": "2", "a": "4.0", "b": "3.0"}]


def test_every_row_is_flushed_immediately(tmp_path: Path) -> None:
    log = CsvLog(tmp_path, name="csv", version=0)
    log.log_metrics({"a": 1.0}, step=0)
    log.save()
    assert len(rows(Path(log.log_dir) / "metrics.csv")) == 1


def test_rewinding_drops_what_is_logged_again(tmp_path: Path) -> None:
    path = logged(tmp_path, {"train/a": 1.0}, {"train/a": 2.0}, {"train/a": 3.0})
    logged(tmp_path, {"val/b": 0.5}, first=1)  # the validation after the second step
    rewind(path, 2)
    assert rows(path) == [{"step": "0", "train/a": "1.0"}, {"step": "1", "train/a": "2.0"}, {"step": "1", "val/b": "0.5"}]
    rewind(path, 2, repeated=["val/"])
    assert rows(path) == [{"step": "0", "train/a": "1.0"}, {"step": "1", "train/a": "2.0"}]
    assert last_step(path) == 2
    rewind(path, 0)
    assert rows(path) == []
    assert last_step(path) is None


def test_truncated_row_is_dropped(tmp_path: Path) -> None:
    path = logged(tmp_path, {"a": 1.0}, {"a": 2.25})
    path.write_bytes(path.read_bytes()[:-4])  # "2.25\r\n" is "2." now
    assert last_step(path) == 1
    rewind(path, 2)
    assert rows(path) == [{"step": "0", "a": "1.0"}]


def test_without_a_log_there_is_nothing_to_rewind(tmp_path: Path) -> None:
    rewind(tmp_path / "metrics.csv", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.01)
    fsync, refused = os.fsync, [2]

    def full(number: int) -> None:
        if refused[0]:
            refused[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(writing.os, "fsync", full)
    path = logged(tmp_path, {"a": 1.0}, {"a": 2.0})
    assert [row["a"] for row in rows(path)] == ["1.0", "2.0"]
    assert refused == [0]
