"""Signals in the processes that read images: theirs is the main process's word alone."""

from __future__ import annotations

import os
import signal
from threading import Thread


def heed_the_parent_alone() -> None:
    """Lets this process outlive the Ctrl-C, the SIGTERM and the SIGUSR1 that a terminal or a scheduler sends to the whole group of a run.

    Without it they die of it, the main process finds them dead, and the step that it was to finish and to save fails. torch tells
    strangers' signals from its own, too, but lets a stranger's kill. A process whose parent was killed is ended by torch's own watch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # else Lightning's handler, inherited, saves and asks SLURM for another turn from here
    if hasattr(signal, "sigwaitinfo"):  # macOS has none: there a SIGTERM to the group stops a run where it is
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
