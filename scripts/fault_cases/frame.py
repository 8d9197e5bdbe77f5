"""What every fault case uses: small runs in processes of their own, and their comparison with one that nothing happened to.

Needs ``tests/`` among the places Python imports from: the small runs and the faults are those of the tests.
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

#: every figure of every step logged, validated twice, saved often, with all that draws at random
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
#: seconds that no small run needs, also on a busy machine
LIMIT = 1200


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Args:
        happened: in a few words for the table.
        nothing_lost: whether it ended as it should.
    """

    happened: str
    nothing_lost: bool


@dataclass(frozen=True)
class Fault:
    """One thing that can go wrong.

    Args:
        name: of the fault, as the table shows it.
        expected: what should happen.
        case: makes it happen in a place and says what became of the run; an exception counts as a failure.
        short: also part of the short campaign, which belongs to the tests.
    """

    name: str
    expected: str
    case: Callable[[Place], Outcome]
    short: bool = False


@dataclass(frozen=True)
class Place:
    """A folder for one case, and what all cases share.

    Args:
        folder: of the case alone, empty at its beginning.
        shared: of the campaign: the generated crowd, and the runs that nothing happened to.
    """

    folder: Path
    shared: Path

    def command(self, *overrides: str, program: tuple[str, ...] = ("-m", "cis_seg.train"), runs: Path | None = None) -> list[str]:
        """The command line of a small run, below ``folder/runs`` or ``runs``; later overrides win."""
        paths = (f"paths.runs={runs or self.folder / 'runs'}", f"paths.data={self.shared / 'data'}")
        return [sys.executable, *program, *RUN, *paths, *overrides]

    def run_of(self, name: str, runs: Path | None = None) -> Path:
        """The folder of the run ``name``."""
        return (runs or self.folder / "runs") / name / "seed0"

    def start(self, command: list[str], **environment: str) -> subprocess.Popen[str]:
        """The command as a process group of its own; ``said`` has what it prints."""
        with (self.folder / "said.txt").open("a") as said:
            return subprocess.Popen(
                command, cwd=self.folder, env=_environment(environment), stdout=said, stderr=said, text=True, start_new_session=True
            )

    def said(self) -> str:
        """Everything that the processes of this place have printed so far."""
        return (self.folder / "said.txt").read_text()

    def finish(self, command: list[str], **environment: str) -> int:
        """The command, run to its end; its exit code."""
        return self.start(command, **environment).wait(LIMIT)

    def whole(self, *overrides: str) -> Path:
        """A run with these overrides that nothing happened to; trained once a campaign.

        Raises:
            RuntimeError: it failed all the same.
        """
        name = "whole" + hashlib.sha1(" ".join(overrides).encode()).hexdigest()[:8]
        run = self.run_of(name, self.shared / "runs")
        command = self.command(*overrides, f"name={name}", runs=self.shared / "runs")
        if not (run / "metrics.json").is_file() and self.finish(command):
            raise RuntimeError(f"the run that nothing happens to failed:\n{self.said()[-2000:]}")
        return run

    def resumed(self, name: str, *overrides: str, runs: Path | None = None) -> list[str]:
        """Continues the run ``name`` to its end, and says in what it differs from one that nothing happened to; empty: in no bit."""
        code = self.finish(self.command(*overrides, f"name={name}", "resume=true", runs=runs))
        return [f"continuing it failed with exit code {code}"] if code else compared(self.run_of(name, runs), self.whole(*overrides))


def _environment(more: dict[str, str]) -> dict[str, str]:
    places = [str(Path(faulty.__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, places)), **more}


def steps_logged(run: Path) -> int:
    """How many steps the run's log knows."""
    with suppress(OSError, ValueError, KeyError):  # it is not there yet, or just being written
        return max((int(row["step"]) + 1 for row in rows_of(run)), default=0)
    return 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Whether ``condition`` came true before the process ended."""
    deadline = time.monotonic() + LIMIT
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def kill_group(process: subprocess.Popen[str], signum: int = signal.SIGKILL) -> None:
    """Sends a signal to a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signum)
