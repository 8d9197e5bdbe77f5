"""Processes that read images and die or hang: torch says so in its own words, the user gets to know what to do."""

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


#: seconds that the training waits for a batch; because the slowest disk reads one in a tenth of that, and a lost network drive never does
TIMEOUT = 300
#: what taking a batch from a process that dies meanwhile fails with, beside torch's RuntimeError
BROKEN = (ConnectionError, EOFError)
#: seconds in which the signal about a process's death arrives after its connection broke, because in a dozen tries it took 0.04
SIGNAL_SECONDS = 1.0
#: seconds beyond the time limit after which a wait that torch's own limit does not end is ended: taking over a batch that is there already
GRACE = 5.0
#: how torch 2.11 to 2.14 begin their messages
_HUNG = re.compile(r"DataLoader timed out after ")
_DIED = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal: [\w ]+)")
_CAUGHT = "Caught "  # of an error of the code that ran in such a process
_SHOWN = 4  # images in a message
_RESUME = "then go on with resume=true"


class Watch(Thread):
    """Kills the processes of a DataLoader where a batch is waited for too long: ``with watch: next(batches)``.

    torch's own limit covers the reading of a batch. It does not cover the moment in which the tensors of one that was read are taken over
    from a process that no longer answers (stopped, frozen, swapped out), and neither does it end such a process, without which this one
    could not end. One that the system itself cannot wake (a dead network drive) stays.

    Args:
        processes: those of the DataLoader.
        seconds: torch's limit; 0 never kills.
    """

    def __init__(self, processes: Sequence[BaseProcess], seconds: float) -> None:
        super().__init__(daemon=True, name="watch over the processes that read images")
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
        """What the thread does."""
        while not self._over.wait(1.0):
            since = self._since
            if since is not None and time.monotonic() - since > self.seconds + GRACE:
                self.fired = True
                self._kill()
                return

    def stop(self) -> None:
        """Ends the watch."""
        self._over.set()

    def told(self, error: Exception, reading: Sequence[Path]) -> RunError | None:
        """As ``worker_error``, with the hanging processes ended."""
        if not self.fired and not _HUNG.match(str(error)):
            return worker_error(error, reading) if self.processes else None
        self._kill()
        with suppress(RuntimeError):  # of torch's handler, about the processes killed here
            time.sleep(SIGNAL_SECONDS)
        return _hung(f"nothing for {self.seconds:g} seconds", reading)

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()


@contextmanager
def worker_faults_told() -> Iterator[None]:
    """Turns torch's errors about a DataLoader's processes into ours; others pass. A process's death shows anywhere in the main thread.

    Raises:
        RunError: a process was killed or hangs.
    """
    try:
        yield
    except RuntimeError as error:
        told = worker_error(error)
        if told is None:
            raise
        raise told from error


def worker_error(error: Exception, reading: Sequence[Path] = ()) -> RunError | None:
    """Our words for ``error``; None where it is not about a DataLoader's process.

    Args:
        error: a RuntimeError of torch, or one of ``BROKEN`` that was raised where a batch was waited for.
        reading: the images of that batch.
    """
    if _HUNG.match(str(error)):
        return _hung(str(error), reading)
    found = _death(error)
    if found is None:
        return None
    memory = "it ran out of shared memory: give the container more (--shm-size), or set data.workers=0"
    killed = "most often the system was out of memory and killed it: set fewer data.workers (0 reads in the main process)"
    remedy = f"{memory if 'Bus error' in found else killed}; {_RESUME}"
    return RunError("a process that reads images was lost", where=_listed(reading), found=found, remedy=remedy)


def _hung(found: str, reading: Sequence[Path]) -> RunError:
    return RunError(
        "the process that reads the next batch does not answer",
        where=_listed(reading),
        expected="a batch within data.worker_timeout seconds",
        found=found,
        remedy="open these images: a disk or a network drive may hang; for a slow one raise data.worker_timeout (0 waits for ever); "
        + _RESUME,
    )


def _listed(reading: Sequence[Path]) -> str | None:
    more = [f"and {len(reading) - _SHOWN} more"] if len(reading) > _SHOWN else []
    return "\n    ".join(["", *map(str, reading[:_SHOWN]), *more]) if reading else None


def _death(error: Exception) -> str | None:
    """How a process died, or None where ``error`` is about something else."""
    broken = isinstance(error, BROKEN) and not str(error).startswith(_CAUGHT)
    died = _DIED.search(str(error))
    if not broken and died is None:
        return None
    try:
        time.sleep(SIGNAL_SECONDS if died is None or "signal" not in died[0] else 0)
    except RuntimeError as signalled:  # by torch's handler; if it came later, it would end whatever is done then
        died = _DIED.search(str(signalled)) or died
    return died[0] if died is not None else f"the connection to it broke ({type(error).__name__})"
