"""Signals: from a scheduler, from a terminal, from SLURM."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from fault_cases.frame import Fault, Outcome, Place, kill_group, steps_logged, wait_for

#: what SLURM tells a job of one process
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
    "SLURM_JOB_NUM_NODES": "1",
}
SCONTROL = '#!/bin/sh\necho "$@" >> {file}\n'


def sigterm(place: Place) -> Outcome:
    """To the process alone, as ``kill`` does."""
    return _stopped(place, signal.SIGTERM, 143, group=False)


def sigterm_to_all(place: Place) -> Outcome:
    """To every process of the run, the readers of images too, as a scheduler does."""
    return _stopped(place, signal.SIGTERM, 143, group=True)


def ctrl_c(place: Place) -> Outcome:
    """To every process of the run, as a terminal does."""
    return _stopped(place, signal.SIGINT, 130, group=True)


def _stopped(place: Place, signum: signal.Signals, expected: int, *, group: bool) -> Outcome:
    process = _started(place, place.command("name=stopped"), 5)
    if group:
        kill_group(process, signum)
    else:
        process.send_signal(signum)
    code = process.wait()
    last = place.run_of("stopped") / "checkpoints" / "last.ckpt"
    told = f"in {last}" in place.said() and "resume=true" in place.said() and "Traceback" not in place.said()
    found = place.resumed("stopped")
    ended = "bit-equal" if not found else "; ".join(found[:3])
    return Outcome(f"saved, exit code {code}; continued, it ended {ended}", nothing_lost=code == expected and told and not found)


def ctrl_c_twice(place: Place) -> Outcome:
    """The second one ends it without a checkpoint of this step: the one before must do."""
    process = _started(place, place.command("name=stopped", *_slow(6, 60)), 5)
    kill_group(process, signal.SIGINT)
    time.sleep(1.2)  # because two within a second are one press
    kill_group(process, signal.SIGINT)
    began = time.monotonic()
    code = process.wait()
    seconds = time.monotonic() - began
    found = place.resumed("stopped")
    happened = f"exit code {code} after {seconds:.0f} s; continued, it ended {found or 'bit-equal'}"
    return Outcome(happened, nothing_lost=code == 130 and seconds < 30 and not found)


def _slow(step: int, seconds: float) -> tuple[str, ...]:
    """The overrides that make a run's steps take longer."""
    return "+callbacks.slow._target_=faulty.Slow", f"+callbacks.slow.step={step}", f"+callbacks.slow.seconds={seconds}"


def whole_sweep(place: Place) -> Outcome:
    """A signal to the first of two jobs: the second must not begin."""
    process = _started(place, place.command("name=stopped", "hydra.mode=MULTIRUN", "seed=0,1"), 3)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    begun = (place.folder / "runs" / "stopped" / "seed1").exists()
    return Outcome(f"exit code {code}, the second job {'began' if begun else 'did not begin'}", nothing_lost=code == 143 and not begun)


def requeue(place: Place) -> Outcome:
    """SLURM's warning before its time limit: Lightning asks for the next turn, SLURM ends the job, the next turn continues it."""
    asked, tools = place.folder / "asked.txt", place.folder / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(SCONTROL.format(file=asked))
    (tools / "scontrol").chmod(0o700)
    process = _started(place, place.command("name=stopped", *_slow(4, 1)), 4, PATH=f"{tools}:/usr/bin:/bin", **SLURM)
    kill_group(process, signal.SIGUSR1)
    wait_for(asked.is_file, process)
    kill_group(process, signal.SIGTERM)
    code = process.wait()
    request = asked.read_text().strip() if asked.is_file() else "nothing"
    others = [path.name for path in Path(place.run_of("stopped")).glob("hpc_ckpt*")]
    found = place.resumed("stopped")
    good = code == 143 and request == "requeue 4711" and not others and not found
    return Outcome(f"scontrol {request}, exit code {code}; continued, it ended {found or 'bit-equal'}", nothing_lost=good)


def _started(place: Place, command: list[str], step: int, **environment: str) -> subprocess.Popen[str]:
    """A run that has done ``step`` steps."""
    process = place.start(command, **environment)
    wait_for(lambda: steps_logged(place.run_of("stopped")) >= step, process)
    return process


FAULTS = [
    Fault("SIGTERM", "saved, exit code 143, continues to the same bits", sigterm),
    Fault("SIGTERM to all processes", "saved, exit code 143, continues to the same bits", sigterm_to_all),
    Fault("Ctrl-C", "saved, exit code 130, continues to the same bits", ctrl_c),
    Fault("Ctrl-C twice", "exit code 130 at once, continues to the same bits", ctrl_c_twice),
    Fault("SIGTERM in a multirun", "ends the whole sweep with 143", whole_sweep),
    Fault("SLURM's requeue signal", "saved, scontrol requeue, continues to the same bits", requeue),
]
