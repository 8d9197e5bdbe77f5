"""Non-finite losses and gradients: the step is skipped, or the run stops with advice."""

from __future__ import annotations

import json
import shlex
import sys
from functools import partial
from pathlib import Path

from fault_cases.frame import Fault, Outcome, Place
from faulty import rows_of, sends, state_of
from step_faults import spoils

#: the run is stopped between them
BAD_STEPS = [3, 8]


def left_out(place: Place, kind: str, *overrides: str) -> Outcome:
    """Two bad steps, a stop by SIGTERM between them, and each of them computed again from its file."""
    spoilt = (*spoils(kind, steps=BAD_STEPS), *overrides)
    code = place.finish(place.command("name=nan", *spoilt, *sends(6)))
    problems = [] if code == 143 else [f"exit code {code} instead of 143"]
    problems += place.resumed("nan", *spoilt)
    run = place.run_of("nan")
    reports = [json.loads(path.read_text()) for path in sorted((run / "bad_steps").glob("*.json"))]
    problems += [] if sorted({report["step"] for report in reports}) == BAD_STEPS else [f"{len(reports)} reports"]
    problems += [f"replay: exit code {code}" for report in reports if (code := place.finish(_replay(report["reproduce"])))]
    skipped = [float(row["train/skipped_steps"]) for row in rows_of(run) if "train/skipped_steps" in row][-1]
    problems += [] if skipped == len(BAD_STEPS) else [f"counted {skipped:g}"]
    problems += [] if _finite(run) else ["weights are not finite"]
    happened = f"skipped steps {', '.join(map(str, BAD_STEPS))}, stopped between, computed again from {len(reports)} files"
    return Outcome(f"{happened}; {'ended bit-equal' if not problems else '; '.join(problems[:3])}", nothing_lost=not problems)


def _replay(told: str) -> list[str]:
    """The command that a report gives, with the Python of this campaign."""
    program, *arguments = shlex.split(told)
    assert program == "python", told
    return [sys.executable, *arguments]


def hopeless(place: Place) -> Outcome:
    """A NaN in every step from the fifth on, until the run gives up; then the cause is mended."""
    code = place.finish(place.command("name=nan", *spoils("PoisonedLoss", steps=list(range(5, 13))), "optim.max_bad_steps=4"))
    advised = "4 training steps in a row" in place.said() and "optim.lr" in place.said() and "Traceback" not in place.said()
    run = place.run_of("nan")
    sound = _finite(run)
    resumed = place.finish(place.command("name=nan", "optim.max_bad_steps=4", "resume=true"))
    good = code == 2 and advised and sound and resumed == 0 and _finite(run) and (run / "metrics.json").is_file()
    happened = f"stopped with advice: {advised}, exit code {code}, checkpoint sound: {sound}; mended and continued, exit code {resumed}"
    return Outcome(happened, nothing_lost=good)


def _finite(run: Path) -> bool:
    return all(value.isfinite().all() for value in state_of(run)["state_dict"].values() if value.is_floating_point())


PAIR = ("trainer.devices=2", "trainer.accelerator=cpu")
EXPECTED = "nothing of the step stays; written down; continues to the same bits"
FAULTS = [
    Fault("NaN in the loss", EXPECTED, partial(left_out, kind="PoisonedLoss"), short=True),
    Fault("infinite gradient", EXPECTED, partial(left_out, kind="PoisonedGradient")),
    Fault("NaN in one of two processes", f"skipped in both; {EXPECTED}", lambda place: left_out(place, "PoisonedLoss", *PAIR)),
    Fault("NaN in every step", "stops with advice, exit code 2, its checkpoint sound", hopeless),
]
