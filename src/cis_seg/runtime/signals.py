"""Signals that end a run: remembered until the step is done, then turned into an exit with a documented code."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: what asks a run to end: a scheduler or ``kill``, and Ctrl-C; the exit code is 128 more, as a shell reports it: 143 and 130
STOPPING = (signal.SIGTERM, signal.SIGINT)
#: seconds within which two SIGINT are one press of Ctrl-C, because a launcher passes on what its processes got from the terminal themselves
ONE_PRESS = 1.0


class Stopped(SystemExit):
    """The run ends because of a signal, with nothing lost; passes through Hydra and Lightning, and so ends a whole multirun.

    Args:
        signum: the signal.
        how: the end of the sentence "stopped by SIGTERM ...".
    """

    def __init__(self, signum: int, how: str) -> None:
        super().__init__(128 + signum)
        self.sentence = f"stopped by {signal.Signals(signum).name} {how}"

    def __str__(self) -> str:
        return self.sentence


class SignalWatch:
    """Remembers a signal instead of letting it tear a step apart; a second Ctrl-C does.

    ``requeue`` is what Lightning registered for SLURM's SIGUSR1, or None: it saves wherever in a step the signal hits, which no resume
    could be exact from, so it is remembered as well, and called by ``requeue`` when the step is done.

    Attributes:
        received: the number of the signal that is to end the run, 0 for none.
        requeue_wanted: SLURM's signal has come.
    """

    def __init__(self) -> None:
        self.received, self.requeue_wanted, self._since = 0, False, 0.0
        self.requeue: Callable[[int, FrameType | None], Any] | None = None

    def install(self) -> None:
        """Takes over the signals of this process; only its main thread may, in another one nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in STOPPING:
            signal.signal(signum, self._remember)
        if not hasattr(signal, "SIGUSR1"):  # Windows
            return
        handler = signal.getsignal(signal.SIGUSR1)
        if callable(handler) and handler != self._remember_requeue:
            self.requeue = handler
            signal.signal(signal.SIGUSR1, self._remember_requeue)

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if signum == signal.SIGINT == self.received:
            if now - self._since < ONE_PRESS:
                return
            raise KeyboardInterrupt
        self.received, self._since = signum, now
        again = "; Ctrl-C once more ends it at once" if signum == signal.SIGINT else ""
        # because a handler may interrupt a print or a log call, and neither can be entered twice
        os.write(2, f"{signal.Signals(signum).name}: the step is finished and saved first{again}\n".encode())

    def _remember_requeue(self, _signum: int, _frame: FrameType | None) -> None:
        self.requeue_wanted = True
