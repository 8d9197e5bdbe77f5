"""Signals of a scheduler, a terminal and SLURM."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from fault_cases.frame import IDENTICAL, Fault, Outcome, Sandbox, kill_group, steps_logged, wait_for

#: environment variables that SLURM sets for a job of one process
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


def sigterm(sandbox: Sandbox) -> Outcome:
    """Signal the main process only, as ``kill`` does."""
    return _stopped(sandbox, signal.SIGTERM, 143, group=False)


def sigterm_to_all(sandbox: Sandbox) -> Outcome:
    """Signal every process of the run, including data loading workers, as a scheduler does."""
    return _stopped(sandbox, signal.SIGTERM, 143, group=True)


def ctrl_c(sandbox: Sandbox) -> Outcome:
    """Signal every process of the run, as a terminal does."""
    return _stopped(sandbox, signal.SIGINT, 130, group=True)


def _stopped(sandbox: Sandbox, signum: signal.Signals, expected: int, *, group: bool) -> Outcome:
    process = _started(sandbox, sandbox.command("name=stopped"), 5)
    if group:
        kill_group(process, signum)
    else:
        process.send_signal(signum)
    code = process.wait()
    last = sandbox.run_of("stopped") / "checkpoints" / "last.ckpt"
    reported = f"in {last}" in sandbox.output() and "resume=true" in sandbox.output() and "Traceback" not in sandbox.output()
    found = sandbox.resumed("stopped")
    ended = "bit-identical" if not found else "; ".join(found[:3])
    happened = f"saved, exit code {code}; when resumed, it ended {ended}"
    return Outcome(happened, nothing_lost=code == expected and reported and not found)


def ctrl_c_twice(sandbox: Sandbox) -> Outcome:
    """The second Ctrl-C ends the run without a checkpoint of this step, so that it resumes from the previous one."""
    process = _started(sandbox, sandbox.command("name=stopped", *_slow(6, 60)), 5)
    kill_group(process, signal.SIGINT)
    time.sleep(1.2)  # two signals within a second count as one
    kill_group(process, signal.SIGINT)
    began = time.monotonic()
    code = process.wait()
    seconds = time.monotonic() - began
    found = sandbox.resumed("stopped")
    happened = f"exit code {code} after {seconds:.0f} s; when resumed, it ended {found or 'bit-identical'}"
    return Outcome(happened, nothing_lost=code == 130 and seconds < 30 and not found)


def _slow(step: int, seconds: float) -> tuple[str, ...]:
    """Return overrides that slow a run down."""
    return "+callbacks.slow._target_=faulty.Slow", f"+callbacks.slow.step={step}", f"+callbacks.slow.seconds={seconds}"


def whole_sweep(sandbox: Sandbox) -> Outcome:
    """Signal the first of two jobs: the second must not start."""
    process = _started(sandbox, sandbox.command("name=stopped", "hydra.mode=MULTIRUN", "seed=0,1"), 3)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    begun = (sandbox.folder / "runs" / "stopped" / "seed1").exists()
    return Outcome(f"exit code {code}, the second job {'started' if begun else 'did not start'}", nothing_lost=code == 143 and not begun)


def requeue(sandbox: Sandbox) -> Outcome:
    """SLURM's warning before its time limit: Lightning requeues the job, SLURM ends it, and the next job resumes the run."""
    asked, tools = sandbox.folder / "asked.txt", sandbox.folder / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(SCONTROL.format(file=asked), encoding="utf-8")
    (tools / "scontrol").chmod(0o700)
    process = _started(sandbox, sandbox.command("name=stopped", *_slow(4, 1)), 4, PATH=f"{tools}:/usr/bin:/bin", **SLURM)
    kill_group(process, signal.SIGUSR1)
    wait_for(asked.is_file, process)
    kill_group(process, signal.SIGTERM)
    code = process.wait()
    request = asked.read_text(encoding="utf-8").strip() if asked.is_file() else "nothing"
    others = [path.name for path in Path(sandbox.run_of("stopped")).glob("hpc_ckpt*")]
    found = sandbox.resumed("stopped")
    good = code == 143 and request == "requeue 4711" and not others and not found
    return Outcome(f"scontrol {request}, exit code {code}; when resumed, it ended {found or 'bit-identical'}", nothing_lost=good)


def _started(sandbox: Sandbox, command: list[str], step: int, **environment: str) -> subprocess.Popen[str]:
    """Start a run and wait until ``step`` steps are done."""
    process = sandbox.start(command, **environment)
    wait_for(lambda: steps_logged(sandbox.run_of("stopped")) >= step, process)
    return process


FAULTS = [
    Fault("SIGTERM", f"saved, exit code 143; {IDENTICAL}", sigterm),
    Fault("SIGTERM to all processes", f"saved, exit code 143; {IDENTICAL}", sigterm_to_all),
    Fault("Ctrl-C", f"saved, exit code 130; {IDENTICAL}", ctrl_c),
    Fault("Ctrl-C twice", f"exit code 130 at once; {IDENTICAL}", ctrl_c_twice),
    Fault("SIGTERM in a multirun", "ends the whole sweep with exit code 143", whole_sweep),
    Fault("SLURM's requeue signal", f"saved, scontrol requeue; {IDENTICAL}", requeue),
]
