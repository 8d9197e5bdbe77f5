"""Atomic file writes: to a temporary file, flushed to disk, then renamed. They wait while the disk is full. And locks between processes."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock

from cis_seg.runtime.signals import STOP_SIGNALS, Stopped

log = logging.getLogger(__name__)

#: suffix of a file that is being written
PARTIAL = ".partial"
#: seconds between two attempts on a full disk; freeing space by hand takes longer
RETRY_SECONDS = 30.0
#: required free space as a multiple of the file's size, because logs and images grow meanwhile
SPACE_FACTOR = 1.1
#: the disk is full, or the user's quota is used up
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)

Bytes = bytes | memoryview


def write_atomically(path: Path, content: Bytes, *, before_rename: Callable[[], None] | None = None) -> None:
    """Write ``content`` to ``path`` atomically: at any time, also after a power failure, the file is either the old or the new one.

    Args:
        path: file in an existing folder.
        content: the whole content of the file.
        before_rename: called once the new file is flushed to disk, before it replaces the old one.

    Raises:
        OSError: the write failed; the partial file is removed and the old file is unchanged.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")  # several processes may write the same file
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename()
        os.replace(partial, path)
    except BaseException:  # also Stopped, raised by a signal
        with suppress(OSError):
            partial.unlink()
        raise
    _flush_folder(path.parent)


def append(path: Path, content: bytes) -> None:
    """Append ``content`` to ``path``, all of it or nothing.

    Raises:
        OSError: the write failed; the file has its old length.
    """
    with path.open("ab", buffering=0) as file:
        length = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except BaseException:
            os.ftruncate(file.fileno(), length)
            raise


def retry_while_disk_full(write: Callable[[], None], path: Path, size: int) -> None:
    """Call ``write``, and repeat the call for as long as the disk of ``path`` is full; a warning is logged before each wait.

    The number of attempts has no limit, because the content exists nowhere else and giving up would lose it. Ctrl-C or a scheduler's
    signal ends the wait. In a distributed run the other processes wait at a barrier, whose time limit applies.

    Args:
        write: writes the file.
        path: the file.
        size: its size in bytes.

    Raises:
        Stopped: SIGINT or SIGTERM arrived while waiting.
        OSError: ``write`` failed for another reason than a full disk.
    """
    problem = _write_if_space(write, path, size)
    if problem is None:
        return
    with _stop_on_signal(path):
        while problem is not None:
            log.warning(
                "paused: not enough disk space to write %s\n  needed: %s; %s\n  what to do: free some space; the next attempt is in %g s "
                "(Ctrl-C ends the run and leaves the files as they are)",
                *(path, _megabytes(int(size * SPACE_FACTOR)), problem, RETRY_SECONDS),
            )
            time.sleep(RETRY_SECONDS)
            problem = _write_if_space(write, path, size)


def _write_if_space(write: Callable[[], None], path: Path, size: int) -> str | None:
    """Call ``write`` if the disk has enough space. Return None on success, else a description of the missing space."""
    problem = _missing_space(path.parent, size)
    if problem is None:
        try:
            write()
        except OSError as error:
            if error.errno not in DISK_FULL_ERRNOS:
                raise
            problem = str(error)
    return problem


def _missing_space(folder: Path, size: int) -> str | None:
    free = shutil.disk_usage(folder).free
    return None if free >= size * SPACE_FACTOR else f"free: {_megabytes(free)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _flush_folder(folder: Path) -> None:
    """Flush ``folder`` to disk, so that a rename in it survives a power failure: a folder stores the names of its files."""
    if os.name == "nt":  # folders cannot be opened on Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _stop_on_signal(path: Path) -> Iterator[None]:
    """Let a signal end the run immediately: while it waits, there is no training step to finish."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise Stopped(signum, f"while waiting for disk space to write {path}, which is unchanged")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; the file is deleted on release.

    Forked processes do not inherit the lock, because filelock closes its file in them. The same process may acquire it again.

    Args:
        path: lock file in an existing folder.
        wait: whether to wait while another process holds the lock.

    Raises:
        filelock.Timeout: another process holds the lock, and ``wait`` is False.
        OSError: the file system does not support locks.
    """
    # no soft fallback: a file that merely exists would outlive a killed run
    lock = FileLock(path.resolve(), is_singleton=True, fallback_to_soft=False)
    with lock.acquire(timeout=-1 if wait else 0):
        try:
            yield
        finally:
            if lock.lock_counter == 1:
                with suppress(OSError):  # on Windows an open file cannot be deleted
                    path.unlink()
