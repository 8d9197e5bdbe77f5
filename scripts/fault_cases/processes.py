"""Runs of several processes: a process or the launcher dies, and runs with one and with two processes are compared."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import torch

from fault_cases.frame import IDENTICAL, Fault, Outcome, Sandbox, steps_logged, wait_for
from faulty import rows_of, state_of
from process_faults import left_behind

PAIR = ("trainer.devices=2", "trainer.accelerator=cpu")
#: train in float64, so that a difference between two runs is not due to rounding
EXACT = ("+callbacks.double._target_=process_faults.Double", "~callbacks.card")
#: seconds within which a run must end after one of its processes has
MINUTE = 60
#: relative difference of two runs' losses that rounding explains, because a few parts stay in float32
ROUNDING = 1e-6


def process_fails(sandbox: Sandbox, kind: str, rank: int, code: int, message: str) -> Outcome:
    """A process fails in the fifth step; the error reported last must be its own, not a consequence in another process."""
    fault = {"_target_": "process_faults.Fault", "kind": kind, "rank": rank, "step": 5}
    found_code = sandbox.finish(
        sandbox.command("name=failed", *PAIR, *(f"+callbacks.fault.{k}={v}" for k, v in fault.items())), **_mark(sandbox)
    )
    seconds = time.time() - (sandbox.run_of("failed") / "touch").stat().st_mtime
    left = left_behind(f"SANDBOX={sandbox.folder}")
    reported = message in sandbox.output().splitlines()[-5:] and sandbox.output().count("Traceback") == (kind == "raise")
    problems = [f"exit code {found_code}"] if found_code != code else []
    problems += [f"left {len(left)} processes"] if left else []
    problems += [] if reported else ["the first error is not reported last"]
    problems += sandbox.resumed("failed", *PAIR)
    return _outcome(f"the run ended {seconds:.0f} s later, exit code {found_code}", problems, seconds < MINUTE)


def launcher_killed(sandbox: Sandbox) -> Outcome:
    """SIGKILL to the process that the user started: the processes that it started must not continue to train."""
    process = sandbox.start(sandbox.command("name=failed", *PAIR), **_mark(sandbox))
    wait_for(partial(_reached, sandbox.run_of("failed"), 5), process)
    process.kill()
    process.wait()
    began = time.monotonic()
    while left_behind(f"SANDBOX={sandbox.folder}") and time.monotonic() < began + MINUTE:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    return _outcome(f"the others ended within {seconds:.0f} s", sandbox.resumed("failed", *PAIR), seconds < MINUTE)


def stopped(sandbox: Sandbox, signum: signal.Signals) -> Outcome:
    """A signal to the process that the user started: all processes save at the same step."""
    process = sandbox.start(sandbox.command("name=failed", *PAIR), **_mark(sandbox))
    wait_for(partial(_reached, sandbox.run_of("failed"), 5), process)
    process.send_signal(signum)
    code = process.wait()
    reported = "resume=true" in sandbox.output() and "Traceback" not in sandbox.output()
    problems = [] if reported and code == 128 + signum else [f"exit code {code}, message on how to resume: {reported}"]
    problems += ["processes left"] if left_behind(f"SANDBOX={sandbox.folder}") else []
    return _outcome(f"saved, exit code {code}", [*problems, *sandbox.resumed("failed", *PAIR)], True)


def two_compared_with_one(sandbox: Sandbox) -> Outcome:
    """Twelve steps with two validations and everything that is random."""
    largest, steps = _largest_difference(sandbox.undisturbed(*PAIR, *EXACT), sandbox.undisturbed(*EXACT))
    return Outcome(f"largest relative difference of a loss in {steps} steps: {largest:.1e}", nothing_lost=largest < ROUNDING)


def one_resumed_with_two(sandbox: Sandbox) -> Outcome:
    """Stop a run of one process, and resume it with two."""
    process = sandbox.start(sandbox.command("name=grown", *EXACT))
    wait_for(partial(_reached, sandbox.run_of("grown"), 5), process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    step = state_of(sandbox.run_of("grown"))["global_step"]
    code = sandbox.finish(sandbox.command("name=grown", "resume=true", *PAIR, *EXACT))
    if code:
        return Outcome(f"resuming failed with exit code {code}", nothing_lost=False)
    largest, steps = _largest_difference(sandbox.run_of("grown"), sandbox.undisturbed(*EXACT))
    reported = "trainer.devices is 2 now, was 1" in sandbox.output()
    message = "with a message" if reported else "without a message"
    happened = f"resumed at step {step} of {steps}, {message}; largest relative difference {largest:.1e}"
    return Outcome(happened, nothing_lost=reported and largest < ROUNDING)


def _largest_difference(run: Path, other: Path) -> tuple[float, int]:
    """Return the largest relative difference of the losses of all steps, and the number of steps."""
    one, two = (
        {(row["step"], key): float(value) for row in rows_of(folder) for key, value in row.items() if key.startswith("train/loss")}
        for folder in (run, other)
    )
    if one.keys() != two.keys():
        raise RuntimeError(f"{run} and {other} have logged different steps or losses: {sorted(one.keys() ^ two.keys())[:3]}")
    mine, theirs = (torch.tensor([values[key] for key in one], dtype=torch.float64) for values in (one, two))
    return float(((mine - theirs).abs() / theirs.abs().clamp(min=1e-9)).max()), len({step for step, _ in one})


def _reached(run: Path, step: int) -> bool:
    return steps_logged(run) >= step


def _mark(sandbox: Sandbox) -> dict[str, str]:
    """Return an environment variable that identifies the processes of a sandbox."""
    return {"SANDBOX": str(sandbox.folder)}


def _outcome(happened: str, problems: list[str], in_time: bool) -> Outcome:
    ended = "when resumed, it ended bit-identical" if not problems else "; ".join(problems[:3])
    return Outcome(f"{happened}; {ended}", nothing_lost=in_time and not problems)


KILLED, RAISED = "error: process {} of 2 was killed; the others were stopped", "process {} of 2 failed first; the others were stopped"
FAULTS = [
    Fault(
        "one of two killed (SIGKILL)",
        f"ends within a minute with a message, leaves no process; {IDENTICAL}",
        partial(process_fails, kind="kill", rank=1, code=1, message=KILLED.format(1)),
    ),
    Fault(
        "the first of two killed (SIGKILL)",
        "the same",
        partial(process_fails, kind="kill", rank=0, code=1, message=KILLED.format(0)),
    ),
    Fault(
        "an exception in one of two",
        f"ends within a minute with this traceback only; {IDENTICAL}",
        partial(process_fails, kind="raise", rank=1, code=1, message=RAISED.format(1)),
    ),
    Fault(
        "a user error raised in one of two",
        f"ends within a minute with the message only; {IDENTICAL}",
        partial(process_fails, kind="refuse", rank=0, code=2, message="error: the mistake of the test"),
    ),
    Fault("the launcher of two processes killed (SIGKILL)", f"the processes end; {IDENTICAL}", launcher_killed),
    Fault("SIGTERM to a run of two processes", f"saved, exit code 143; {IDENTICAL}", partial(stopped, signum=signal.SIGTERM)),
    Fault("SIGINT to a run of two processes", f"saved, exit code 130; {IDENTICAL}", partial(stopped, signum=signal.SIGINT)),
    Fault("two processes compared with one", "the same losses up to rounding", two_compared_with_one),
    Fault("started with one process, resumed with two", "a message; the same losses up to rounding", one_resumed_with_two),
]
