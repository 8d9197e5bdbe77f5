"""Locks between processes, which the system releases when their process ends, in whatever way it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is deleted at the end.

    Forked processes do not inherit the lock: filelock closes its file in them. The process itself may take it again.

    Args:
        path: in an existing folder.
        wait: for another process that holds it; otherwise its lock is an error.

    Raises:
        filelock.Timeout: another process holds the lock.
        OSError: the file system has no locks.
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
