"""Files are whole or not there, and a full disk is waited for."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from cis_seg.runtime import atomic_files as writing
from cis_seg.runtime.atomic_files import PARTIAL, append, patiently, write_atomically
from cis_seg.runtime.signals import Stopped

Usage = namedtuple("Usage", "total used free")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.ENOSPC) -> None:
    """Lets the system call ``os.<name>`` of the module fail."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(writing.os, name, fail)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    failing(monkeypatch, call)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_old_file_is_there_until_the_new_one_is_safe(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[tuple[bytes, bytes]] = []
    write_atomically(path, b"new", before_rename=lambda: seen.append((path.read_bytes(), Path(f"{path}{PARTIAL}").read_bytes())))
    assert seen == [(b"old", b"new")]
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
    assert flushed[-1], "the folder comes last"


def test_what_cannot_be_appended_whole_is_not_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    append(path, b"one\n")
    failing(monkeypatch, "fsync", errno.EDQUOT)
    with pytest.raises(OSError, match="quota"):
        append(path, b"two\n")
    assert path.read_bytes() == b"one\n"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes are free; looks follow each other at once."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.01)

    def free(number: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - number, number))

    return free


def test_a_full_disk_is_waited_for(tmp_path: Path, disk: Callable[[int], None], caplog: pytest.LogCaptureFixture) -> None:
    disk(50_000_000)
    tries: list[int] = []
    threading.Timer(0.2, disk, [120_000_000]).start()
    patiently(lambda: tries.append(1), tmp_path / "last.ckpt", 100_000_000)
    assert tries == [1], "nothing is tried while there is too little room"
    assert f"paused: no room to write {tmp_path}/last.ckpt\n  needed: 110.0 MB; free: 50.0 MB" in caplog.text


def test_a_disk_that_fills_while_writing_is_waited_for_too(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(10**9)
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    patiently(write, tmp_path / "last.ckpt", 10)
    assert len(tries) == 3


def test_another_failure_is_not_waited_for(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(10**9)

    def write() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        patiently(write, tmp_path / "last.ckpt", 10)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Callable[[int], None], signum: int, code: int
) -> None:
    disk(0)
    before = signal.getsignal(signum)
    monkeypatch.setattr(writing.time, "sleep", lambda _: os.kill(os.getpid(), signum))
    with pytest.raises(Stopped, match="while waiting for room to write") as stopped:
        patiently(lambda: None, tmp_path / "last.ckpt", 10)
    assert stopped.value.code == code
    assert signal.getsignal(signum) == before


def test_a_real_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A file system of a megabyte, without the look beforehand: the write itself fails and leaves nothing half done."""
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.01)
    if os.system(f"mount -t tmpfs -o size=1m none {tmp_path} 2>/dev/null"):
        pytest.skip("a small file system needs the right to mount one")
    try:
        (tmp_path / "ballast").write_bytes(bytes(700_000))
        monkeypatch.setattr(writing, "_no_room", lambda *_: None)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / "last.ckpt", bytes(500_000))
        assert [p.name for p in tmp_path.iterdir()] == ["ballast"]
        with caplog.at_level(logging.WARNING):
            threading.Timer(0.3, (tmp_path / "ballast").unlink).start()
            patiently(lambda: write_atomically(tmp_path / "last.ckpt", bytes(500_000)), tmp_path / "last.ckpt", 500_000)
        assert (tmp_path / "last.ckpt").stat().st_size == 500_000
        assert "No space left on device" in caplog.text
    finally:
        os.system(f"umount {tmp_path}")
