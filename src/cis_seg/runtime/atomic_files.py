"""Files that are whole or not there: written beside their place, flushed, renamed; a full disk is waited for."""

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

from cis_seg.runtime.signals import STOPPING, Stopped

log = logging.getLogger(__name__)

#: what the name of a file ends with while it is being written
PARTIAL = ".partial"
#: seconds between two looks at a full disk, because a person needs longer to make room
RETRY_SECONDS = 30.0
#: free space wanted, in sizes of what is to be written, because logs and pictures go on growing meanwhile
MARGIN = 1.1
#: what the system says when there is no room: on the disk, or in a person's quota
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

Bytes = bytes | memoryview


def write_atomically(path: Path, content: Bytes, *, before_rename: Callable[[], None] | None = None) -> None:
    """Writes ``content`` to ``path`` so that at every moment the file is the old one or the new one, also after a power cut.

    Args:
        path: in an existing folder.
        content: all of the file.
        before_rename: called when the new file is safe on the disk and the old one still in its place.

    Raises:
        OSError: as the system says; what was begun is removed, the old file untouched.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename()
        os.replace(partial, path)
    except BaseException:  # a signal while a disk is waited for ends the run here
        with suppress(OSError):
            partial.unlink()
        raise
    _flush_folder(path.parent)


def append(path: Path, content: bytes) -> None:
    """Adds ``content`` to the end of ``path``, all of it or nothing.

    Raises:
        OSError: as the system says; the file has its old length.
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


def patiently(write: Callable[[], None], where: Path, size: int) -> None:
    """Calls ``write``, which needs ``size`` bytes, once ``where``'s disk has room for it; says so while it waits, without a limit.

    Without a limit because what is to be written exists nowhere else: giving up would lose it. A person ends it with Ctrl-C, a scheduler
    with its signal. In a distributed run the other processes wait in a barrier, whose own time limit holds.

    Raises:
        Stopped: SIGINT or SIGTERM arrived while waiting.
        OSError: another than a full disk.
    """
    problem = _tried(write, where, size)
    if problem is None:
        return
    with _signals_end_it(where):
        while problem is not None:
            log.warning(
                "paused: no room to write %s\n  needed: %s; %s\n  what to do: free some space; looking again every %g s (Ctrl-C ends the "
                "run with the files as they are)",
                *(where, _megabytes(int(size * MARGIN)), problem, RETRY_SECONDS),
            )
            time.sleep(RETRY_SECONDS)
            problem = _tried(write, where, size)


def _tried(write: Callable[[], None], where: Path, size: int) -> str | None:
    """Why there was no room to write; None where it is written."""
    problem = _no_room(where.parent, size)
    if problem is None:
        try:
            write()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            problem = str(error)
    return problem


def _no_room(folder: Path, size: int) -> str | None:
    free = shutil.disk_usage(folder).free
    return None if free >= size * MARGIN else f"free: {_megabytes(free)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _flush_folder(folder: Path) -> None:
    """Makes a rename survive a power cut: the name belongs to the folder, not to the file."""
    if os.name == "nt":  # Windows opens no folders
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _signals_end_it(where: Path) -> Iterator[None]:
    """While waiting there is no step to finish, so a signal ends the run at once."""

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise Stopped(signum, f"while waiting for room to write {where}, which stays as it was")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop) for signum in STOPPING}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
