"""Resource usage of this process: peak memory and the limit of open files. Neither is known on Windows."""

from __future__ import annotations

import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and kilobytes elsewhere


def peak_host_memory() -> int | None:
    """Return the largest resident memory of this process so far in bytes; None on Windows."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def open_file_limit() -> int | None:
    """Return the number of files that this process may have open at once; None on Windows."""
    return None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
