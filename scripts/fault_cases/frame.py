"""Common parts of the fault cases: small runs in separate processes, and their comparison with undisturbed runs.

``tests/`` must be on Python's import path, because it defines the small runs and the faults.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import faulty
from faulty import compared, rows_of
from runs import SMALL

#: a run with everything that is random, two validations and frequent checkpoints, of which every step is logged
RUN = (
    *(option for option in SMALL if not option.startswith("hydra.")),
    "data.photometric=light",
    "data.workers=2",
    "loss.weights.overlap=1",
    "schedule.max_steps=12",
    "schedule.decay_steps=[9]",
    "schedule.val_every=6",
    "schedule.save_every=2",
)
#: the expected end of most cases
IDENTICAL = "ends bit-identical when resumed"
#: timeout of a small run in seconds, also on a busy machine
LIMIT = 1200


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Args:
        happened: a short description for the table.
        nothing_lost: whether the run ended as expected.
    """

    happened: str
    nothing_lost: bool


@dataclass(frozen=True)
class Fault:
    """A fault and the case that injects it.

    Args:
        name: name of the fault in the table.
        expected: the expected outcome.
        case: injects the fault in a sandbox and returns the outcome; an exception counts as a failure.
        short: also part of the short version, which is part of the test suite.
    """

    name: str
    expected: str
    case: Callable[[Sandbox], Outcome]
    short: bool = False


@dataclass(frozen=True)
class Sandbox:
    """The folders of one case.

    Args:
        folder: this case's own folder, initially empty.
        shared: folder of all cases, with the generated crowd and the undisturbed runs.
    """

    folder: Path
    shared: Path

    def command(self, *overrides: str, program: tuple[str, ...] = ("-m", "cis_seg.train"), runs: Path | None = None) -> list[str]:
        """Return the command line of a small run in ``folder/runs`` or ``runs``; later overrides take precedence."""
        paths = (f"paths.runs={runs or self.folder / 'runs'}", f"paths.data={self.shared / 'data'}")
        return [sys.executable, *program, *RUN, *paths, *overrides]

    def run_of(self, name: str, runs: Path | None = None) -> Path:
        """Return the folder of the run ``name``."""
        return (runs or self.folder / "runs") / name / "seed0"

    def start(self, command: list[str], **environment: str) -> subprocess.Popen[str]:
        """Start the command in its own process group; ``output`` returns what it prints."""
        with (self.folder / "output.txt").open("a", encoding="utf-8") as file:
            return subprocess.Popen(
                command, cwd=self.folder, env=_environment(environment), stdout=file, stderr=file, text=True, start_new_session=True
            )

    def output(self) -> str:
        """Return everything that the processes of this sandbox have printed so far."""
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    def finish(self, command: list[str], **environment: str) -> int:
        """Run the command to its end and return its exit code."""
        return self.start(command, **environment).wait(LIMIT)

    def undisturbed(self, *overrides: str) -> Path:
        """Return the folder of an undisturbed run with these overrides; it is trained once and shared by all cases.

        Raises:
            RuntimeError: the run failed.
        """
        name = "undisturbed" + hashlib.sha1(" ".join(overrides).encode()).hexdigest()[:8]
        run = self.run_of(name, self.shared / "runs")
        command = self.command(*overrides, f"name={name}", runs=self.shared / "runs")
        if not (run / "metrics.json").is_file() and self.finish(command):
            raise RuntimeError(f"the undisturbed run failed:\n{self.output()[-2000:]}")
        return run

    def resumed(self, name: str, *overrides: str, runs: Path | None = None) -> list[str]:
        """Resume the run ``name``, and return its differences from the undisturbed run; an empty list if it is bit-identical."""
        code = self.finish(self.command(*overrides, f"name={name}", "resume=true", runs=runs))
        return [f"resuming failed with exit code {code}"] if code else compared(self.run_of(name, runs), self.undisturbed(*overrides))


def _environment(more: dict[str, str]) -> dict[str, str]:
    paths = [str(Path(faulty.__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def steps_logged(run: Path) -> int:
    """Return the number of steps in the run's log."""
    with suppress(OSError, ValueError, KeyError):  # it does not exist yet, or is being written
        return max((int(row["step"]) + 1 for row in rows_of(run)), default=0)
    return 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait until ``condition`` is true or the process ends, and return whether it is true."""
    deadline = time.monotonic() + LIMIT
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def kill_group(process: subprocess.Popen[str], signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signum)
