"""Signals that end a run: recorded until the current step is done, then turned into an exit with a documented code."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

#: sent by a scheduler or ``kill``, and by Ctrl-C; the exit code is 128 plus the signal's number, as in a shell: 143 and 130
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: seconds within which two SIGINT count as one Ctrl-C: the terminal sends one to every process, and a launcher forwards its own as well
REPEAT_SECONDS = 1.0


class Stopped(SystemExit):
    """Raised to end a run after a signal. As a ``SystemExit`` it passes through Hydra and Lightning, and ends a whole multirun.

    Args:
        signum: the signal.
        how: completes the sentence "stopped by SIGTERM ...".
    """

    def __init__(self, signum: int, how: str) -> None:
        super().__init__(128 + signum)
        self.sentence = f"stopped by {signal.Signals(signum).name} {how}"

    def __str__(self) -> str:
        return self.sentence


class SignalWatch:
    """Records signals, so that the current step is completed first. A second Ctrl-C interrupts it.

    Lightning's handler of SLURM's SIGUSR1 saves in the middle of a step, from where a run cannot be resumed exactly. This signal is
    recorded, too, and the handler is called once the step is done.

    Attributes:
        received: number of the signal that ends the run, 0 if none was received.
        requeue_wanted: whether SLURM's signal was received.
        requeue: Lightning's handler of SLURM's signal, or None.
    """

    def __init__(self) -> None:
        self.received, self.requeue_wanted, self._since = 0, False, 0.0
        self.requeue: Callable[[int, FrameType | None], Any] | None = None

    def install(self) -> None:
        """Install the handlers of this process. Does nothing outside the main thread, where handlers cannot be installed."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._record)
        if not hasattr(signal, "SIGUSR1"):  # Windows
            return
        handler = signal.getsignal(signal.SIGUSR1)
        if callable(handler) and handler != self._record_requeue:
            self.requeue = handler
            signal.signal(signal.SIGUSR1, self._record_requeue)

    def _record(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if signum == signal.SIGINT == self.received:
            if now - self._since < REPEAT_SECONDS:
                return
            raise KeyboardInterrupt
        self.received, self._since = signum, now
        again = "; press Ctrl-C again to end immediately" if signum == signal.SIGINT else ""
        # not print or logging: a handler may interrupt a call of either, and neither is reentrant
        os.write(2, f"{signal.Signals(signum).name}: finishing and saving the current step{again}\n".encode())

    def _record_requeue(self, _signum: int, _frame: FrameType | None) -> None:
        self.requeue_wanted = True
