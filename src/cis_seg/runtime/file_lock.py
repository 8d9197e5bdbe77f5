"""Locks between processes. The operating system releases a lock when its process ends, even if it is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock


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
