"""``python -m fault_cases.killed_while_writing WRITE CALL [overrides]``: train, and die inside the WRITE-th write of ``last.ckpt``.

CALL 0 is half-way through the file; CALL n is the n-th system call after it: flush, second name, rename, rename, flush.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cis_seg import train
from cis_seg.checkpoints import LAST
from cis_seg.runtime.atomic_files import PARTIAL, write_atomically
from cis_seg.training.callbacks import checkpoints as checkpoint_io


def main() -> None:
    """Entry point."""
    write, call = (int(sys.argv.pop(1)) for _ in range(2))
    left = [write]

    def killing(path: Path, content: Any, **options: Any) -> None:
        left[0] -= path.name == LAST
        if path.name == LAST and not left[0]:
            _arm(call, path, content)
        write_atomically(path, content, **options)

    setattr(checkpoint_io, "write_atomically", killing)  # noqa: B010  # mypy refuses an assignment to a name that the module imports
    train.main()


def _arm(call: int, path: Path, content: Any) -> None:
    if call == 0:
        path.with_name(path.name + PARTIAL).write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    left = [call]
    for name in ("fsync", "link", "replace"):
        setattr(os, name, _counted(getattr(os, name), left))


def _counted(function: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return counting


if __name__ == "__main__":
    main()
