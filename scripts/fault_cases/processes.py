"""Runs of several processes: one of them dies, the one that started them dies, two against one, one continued with two."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import torch

from fault_cases.frame import Fault, Outcome, Place, steps_logged, wait_for
from faulty import rows_of, state_of
from process_faults import left_behind

PAIR = ("trainer.devices=2", "trainer.accelerator=cpu")
#: float64, where a difference between two runs is one of the computation and not of its rounding
EXACT = ("+callbacks.double._target_=process_faults.Double", "~callbacks.card")
#: seconds in which a run must end when one of its processes has
MINUTE = 60
#: relative difference of two runs' losses that rounding explains: a few parts stay in float32
ROUNDING = 1e-6


def rank_fails(place: Place, kind: str, rank: int, code: int, told: str) -> Outcome:
    """In the fifth step; what the others then run into must not stand before the cause."""
    fault = {"_target_": "process_faults.Fault", "kind": kind, "rank": rank, "step": 5}
    found_code = place.finish(place.command("name=failed", *PAIR, *(f"+callbacks.fault.{k}={v}" for k, v in fault.items())), **_mark(place))
    seconds = time.time() - (place.run_of("failed") / "touch").stat().st_mtime
    left = left_behind(f"PLACE={place.folder}")
    said = told in place.said().splitlines()[-5:] and place.said().count("Traceback") == (kind == "raise")
    problems = [f"exit code {found_code}"] if found_code != code else []
    problems += [f"left {len(left)} processes"] if left else []
    problems += [] if said else ["the first error is not the last word"]
    problems += place.resumed("failed", *PAIR)
    return _outcome(f"the run ended {seconds:.0f} s later, exit code {found_code}", problems, seconds < MINUTE)


def launcher_killed(place: Place) -> Outcome:
    """SIGKILL to the process that a person started: its own must not train on unseen."""
    process = place.start(place.command("name=failed", *PAIR), **_mark(place))
    wait_for(partial(_reached, place.run_of("failed"), 5), process)
    process.kill()
    process.wait()
    began = time.monotonic()
    while left_behind(f"PLACE={place.folder}") and time.monotonic() < began + MINUTE:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    return _outcome(f"the others ended within {seconds:.0f} s", place.resumed("failed", *PAIR), seconds < MINUTE)


def stopped(place: Place, signum: signal.Signals) -> Outcome:
    """To the process that a person started; all save at the same step."""
    process = place.start(place.command("name=failed", *PAIR), **_mark(place))
    wait_for(partial(_reached, place.run_of("failed"), 5), process)
    process.send_signal(signum)
    code = process.wait()
    told = "resume=true" in place.said() and "Traceback" not in place.said()
    problems = [] if told and code == 128 + signum else [f"exit code {code}, said how to continue: {told}"]
    problems += ["processes left"] if left_behind(f"PLACE={place.folder}") else []
    return _outcome(f"saved, exit code {code}", [*problems, *place.resumed("failed", *PAIR)], True)


def two_against_one(place: Place) -> Outcome:
    """Twelve steps, validated twice, with everything that draws at random."""
    largest, steps = _largest_difference(place.whole(*PAIR, *EXACT), place.whole(*EXACT))
    return Outcome(f"largest relative difference of a loss in {steps} steps: {largest:.1e}", nothing_lost=largest < ROUNDING)


def one_continued_with_two(place: Place) -> Outcome:
    """Stopped after some steps of one process, ended by two."""
    process = place.start(place.command("name=grown", *EXACT))
    wait_for(partial(_reached, place.run_of("grown"), 5), process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    step = state_of(place.run_of("grown"))["global_step"]
    code = place.finish(place.command("name=grown", "resume=true", *PAIR, *EXACT))
    if code:
        return Outcome(f"continuing it failed with exit code {code}", nothing_lost=False)
    largest, steps = _largest_difference(place.run_of("grown"), place.whole(*EXACT))
    told = "trainer.devices is 2 now, was 1" in place.said()
    happened = f"went on at step {step} of {steps}, {'said so' if told else 'said nothing'}; largest relative difference {largest:.1e}"
    return Outcome(happened, nothing_lost=told and largest < ROUNDING)


def _largest_difference(run: Path, other: Path) -> tuple[float, int]:
    """Of the losses of all steps, relative; and the number of steps."""
    one, two = (
        {(row["step"], key): float(value) for row in rows_of(folder) for key, value in row.items() if key.startswith("train/loss")}
        for folder in (run, other)
    )
    if one.keys() != two.keys():
        raise RuntimeError(f"{run} and {other} have not logged the same: {sorted(one.keys() ^ two.keys())[:3]}")
    mine, theirs = (torch.tensor([values[key] for key in one], dtype=torch.float64) for values in (one, two))
    return float(((mine - theirs).abs() / theirs.abs().clamp(min=1e-9)).max()), len({step for step, _ in one})


def _reached(run: Path, step: int) -> bool:
    return steps_logged(run) >= step


def _mark(place: Place) -> dict[str, str]:
    """A variable by which the processes of a place are found again."""
    return {"PLACE": str(place.folder)}


def _outcome(happened: str, problems: list[str], in_time: bool) -> Outcome:
    ended = "continued, it ended bit-equal" if not problems else "; ".join(problems[:3])
    return Outcome(f"{happened}; {ended}", nothing_lost=in_time and not problems)


KILLED, RAISED = "error: process {} of 2 was killed; the others were stopped", "process {} of 2 failed first; the others were stopped"
FAULTS = [
    Fault(
        "one of two killed (SIGKILL)",
        "ends within a minute, says so, leaves nothing; continues to the same bits",
        partial(rank_fails, kind="kill", rank=1, code=1, told=KILLED.format(1)),
    ),
    Fault(
        "the first of two killed (SIGKILL)",
        "the same",
        partial(rank_fails, kind="kill", rank=0, code=1, told=KILLED.format(0)),
    ),
    Fault(
        "an exception in one of two",
        "ends within a minute with its traceback alone; continues to the same bits",
        partial(rank_fails, kind="raise", rank=1, code=1, told=RAISED.format(1)),
    ),
    Fault(
        "a user's mistake that one of two meets",
        "ends within a minute with the message alone; continues to the same bits",
        partial(rank_fails, kind="refuse", rank=0, code=2, told="error: the mistake of the test"),
    ),
    Fault("what started two processes killed (SIGKILL)", "nothing trains on; continues to the same bits", launcher_killed),
    Fault("SIGTERM to a run of two processes", "saves, 143; continues to the same bits", partial(stopped, signum=signal.SIGTERM)),
    Fault("SIGINT to a run of two processes", "saves, 130; continues to the same bits", partial(stopped, signum=signal.SIGINT)),
    Fault("two processes against one", "the same losses but for rounding", two_against_one),
    Fault("begun with one process, continued with two", "the same losses but for rounding, and says so", one_continued_with_two),
]
