"""Files are written atomically, writing waits while the disk is full, and locks are exclusive and released when their process is killed."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import Timeout

from cis_seg.runtime import atomic_files as writing
from cis_seg.runtime.atomic_files import PARTIAL, append, locked, retry_while_disk_full, write_atomically
from cis_seg.runtime.signals import Stopped
from cis_seg.training.run_folder import held

Usage = namedtuple("Usage", "total used free")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.ENOSPC) -> None:
    """Make the module's call ``os.<name>`` fail."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, name, fail)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    failing(monkeypatch, call)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_old_file_exists_until_the_new_one_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[dict[str, bytes]] = []
    write_atomically(path, b"new", before_rename=lambda: seen.append({p.suffix: p.read_bytes() for p in tmp_path.iterdir()}))
    assert seen == [{"": b"old", PARTIAL: b"new"}]
    assert path.read_bytes() == b"new"


def test_the_file_and_its_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    fsync = os.fsync

    def spy(number: int) -> None:
        flushed.append(os.path.isdir(f"/proc/self/fd/{number}") if os.path.isdir("/proc/self/fd") else True)
        fsync(number)

    monkeypatch.setattr(writing.os, "fsync", spy)
    write_atomically(tmp_path / "file", b"new")
    assert len(flushed) == 2
    assert flushed[-1], "the folder is flushed last"


def test_a_failed_append_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    append(path, b"one\n")
    failing(monkeypatch, "fsync", errno.EDQUOT)
    with pytest.raises(OSError, match="quota"):
        append(path, b"two\n")
    assert path.read_bytes() == b"one\n"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the number of free bytes, with hardly a wait between attempts."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.01)

    def free(number: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - number, number))

    return free


def test_waits_while_the_disk_is_full(tmp_path: Path, disk: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    disk(50_000_000)
    attempts: list[int] = []
    threading.Timer(0.2, disk, [120_000_000]).start()
    retry_while_disk_full(lambda: attempts.append(1), tmp_path / "last.ckpt", 100_000_000)
    assert attempts == [1], "no attempt while the space is insufficient"
    assert f"paused: not enough disk space to write {tmp_path}/last.ckpt\n  needed: 110.0 MB; free: 50.0 MB" in caplog.text


def test_waits_if_the_disk_fills_up_while_writing(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(10**9)
    attempts: list[int] = []

    def write() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    retry_while_disk_full(write, tmp_path / "last.ckpt", 10)
    assert len(attempts) == 3


def test_other_errors_are_raised(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(10**9)

    def write() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        retry_while_disk_full(write, tmp_path / "last.ckpt", 10)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Callable[[int], None], signum: int, code: int
) -> None:
    disk(0)
    before = signal.getsignal(signum)
    monkeypatch.setattr(writing.time, "sleep", lambda _: os.kill(os.getpid(), signum))
    with pytest.raises(Stopped, match="while waiting for disk space to write") as stopped:
        retry_while_disk_full(lambda: None, tmp_path / "last.ckpt", 10)
    assert stopped.value.code == code
    assert signal.getsignal(signum) == before


def test_a_full_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """On a file system of 1 MB, without the check beforehand: the write itself fails and leaves no partial file."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.01)
    if os.system(f"mount -t tmpfs -o size=1m none {tmp_path} 2>/dev/null"):
        pytest.skip("mounting a small file system needs the permission to mount")
    try:
        (tmp_path / "ballast").write_bytes(bytes(700_000))
        monkeypatch.setattr(writing, "_missing_space", lambda *_: None)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / "last.ckpt", bytes(500_000))
        assert [p.name for p in tmp_path.iterdir()] == ["ballast"]
        with caplog.at_level(logging.WARNING):
            threading.Timer(0.3, (tmp_path / "ballast").unlink).start()
            retry_while_disk_full(lambda: write_atomically(tmp_path / "last.ckpt", bytes(500_000)), tmp_path / "last.ckpt", 500_000)
        assert (tmp_path / "last.ckpt").stat().st_size == 500_000
        assert "No space left on device" in caplog.text
    finally:
        os.system(f"umount {tmp_path}")


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
