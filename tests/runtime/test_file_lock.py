"""Locks between processes: exclusive, and released when the process is killed although its forked workers live on."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from cis_seg.runtime.atomic_files import locked
from cis_seg.training.run_folder import held

HOLDER = """
import multiprocessing, os, sys, time
from pathlib import Path
from cis_seg.runtime.atomic_files import locked

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)

with locked(Path(sys.argv[1]), wait=False):
    worker = multiprocessing.get_context("fork").Process(target=work)  # as a DataLoader starts one
    worker.start()
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_while_its_workers_live(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(Timeout), locked(path, wait=False):
            pass
        holder.kill()
        holder.wait()
        os.kill(worker, 0)  # raises if the worker does not exist
        with locked(path, wait=False):
            assert path.is_file()
        assert not path.exists()
    finally:
        os.kill(worker, signal.SIGKILL)
        holder.kill()
        holder.stdout.close()


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with caplog.at_level(logging.WARNING), held(tmp_path / "run"):
        pass
    assert "cannot be locked" in caplog.text
