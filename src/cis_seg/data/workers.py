"""DataLoader workers that die or hang: detect it, and turn torch's errors into messages that say what to do."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread

from cis_seg.errors import RunError


def ignore_terminal_signals() -> None:
    """Make this worker ignore the SIGINT, SIGTERM and SIGUSR1 that a terminal or scheduler sends to the whole process group.

    Otherwise the workers die, and the main process cannot finish and save its step. Only a SIGTERM from the parent ends a worker. If
    the parent is killed, torch's own watchdog ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the inherited Lightning handler would save and requeue the SLURM job from here
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where a SIGTERM to the group stops the run immediately
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_exit_on_sigterm_from, args=(os.getppid(),), daemon=True).start()


def _exit_on_sigterm_from(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


#: seconds to wait for a batch; because the slowest disk reads one in a tenth of that, and a lost network drive never does
TIMEOUT = 300
#: errors of receiving a batch from a worker that dies meanwhile, besides torch's RuntimeError
BROKEN = (ConnectionError, EOFError)
#: seconds to wait for SIGCHLD after the connection to a worker broke; in a dozen tries it took 0.04
SIGNAL_SECONDS = 1.0
#: seconds beyond torch's timeout after which the watch ends a wait that the timeout does not cover: receiving a finished batch
GRACE = 5.0
#: beginnings of the messages of torch 2.11 to 2.14
_HUNG = re.compile(r"DataLoader timed out after ")
_DIED = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal: [\w ]+)")
_CAUGHT = "Caught "  # begins an error raised by the code that ran in a worker
_SHOWN = 4  # images in a message
_RESUME = "then continue with resume=true"


class Watch(Thread):
    """Kill the workers of a DataLoader if a batch takes too long: ``with watch: next(batches)``.

    torch's own timeout covers reading a batch. It does not cover receiving the tensors of a finished batch from a worker that no longer
    responds (stopped, frozen, swapped out), and it does not end such a worker, without which the main process cannot exit. A worker in
    uninterruptible sleep (a dead network drive) cannot be killed.

    Args:
        processes: the workers.
        seconds: torch's timeout; 0 never kills.
    """

    def __init__(self, processes: Sequence[BaseProcess], seconds: float) -> None:
        super().__init__(daemon=True, name="watch over the DataLoader workers")
        self.processes, self.seconds = processes, seconds
        self.fired = False
        self._since: float | None = None
        self._over = Event()
        if processes and seconds:
            self.start()

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since = None

    def run(self) -> None:
        """Kill the workers once a batch is overdue."""
        while not self._over.wait(1.0):
            since = self._since
            if since is not None and time.monotonic() - since > self.seconds + GRACE:
                self.fired = True
                self._kill()
                return

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def explain(self, error: Exception, reading: Sequence[Path]) -> RunError | None:
        """Like ``worker_error``, but also kill workers that hang."""
        if not self.fired and not _HUNG.match(str(error)):
            return worker_error(error, reading) if self.processes else None
        self._kill()
        with suppress(RuntimeError):  # raised by torch's signal handler about the workers killed here
            time.sleep(SIGNAL_SECONDS)
        return _hung(f"nothing for {self.seconds:g} seconds", reading)

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()


@contextmanager
def worker_errors_explained() -> Iterator[None]:
    """Turn torch's errors about DataLoader workers into ours; torch raises them anywhere in the main thread. Other errors pass.

    Raises:
        RunError: a worker was killed or hangs.
    """
    try:
        yield
    except RuntimeError as error:
        explained = worker_error(error)
        if explained is None:
            raise
        raise explained from error


def worker_error(error: Exception, reading: Sequence[Path] = ()) -> RunError | None:
    """The message for ``error``, or None if it is not about a DataLoader worker.

    Args:
        error: a RuntimeError of torch, or one of ``BROKEN`` raised while waiting for a batch.
        reading: the images of that batch.
    """
    if _HUNG.match(str(error)):
        return _hung(str(error), reading)
    found = _death(error)
    if found is None:
        return None
    memory = "it ran out of shared memory: give the container more (--shm-size), or set data.workers=0"
    killed = "most often the system ran out of memory and killed it: set fewer data.workers (0 reads in the main process)"
    remedy = f"{memory if 'Bus error' in found else killed}; {_RESUME}"
    return RunError("a data-loading worker died", where=_listed(reading), found=found, remedy=remedy)


def _hung(found: str, reading: Sequence[Path]) -> RunError:
    return RunError(
        "the data-loading worker for the next batch is not responding",
        where=_listed(reading),
        expected="a batch within data.worker_timeout seconds",
        found=found,
        remedy="open these images: a disk or network drive may hang; for a slow one raise data.worker_timeout (0 waits forever); "
        + _RESUME,
    )


def _listed(reading: Sequence[Path]) -> str | None:
    more = [f"and {len(reading) - _SHOWN} more"] if len(reading) > _SHOWN else []
    return "\n    ".join(["", *map(str, reading[:_SHOWN]), *more]) if reading else None


def _death(error: Exception) -> str | None:
    """How a worker died, or None if ``error`` is about something else."""
    broken = isinstance(error, BROKEN) and not str(error).startswith(_CAUGHT)
    died = _DIED.search(str(error))
    if not broken and died is None:
        return None
    try:
        time.sleep(SIGNAL_SECONDS if died is None or "signal" not in died[0] else 0)
    except RuntimeError as signalled:  # by torch's signal handler; later it would interrupt whatever runs then
        died = _DIED.search(str(signalled)) or died
    return died[0] if died is not None else f"the connection to it broke ({type(error).__name__})"
