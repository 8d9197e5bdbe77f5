"""Non-finite losses and gradients: the step is skipped, or the run stops with advice."""

from __future__ import annotations

import json
import shlex
import sys
from functools import partial
from pathlib import Path

from fault_cases.frame import IDENTICAL, Fault, Outcome, Sandbox
from faulty import rows_of, sends, state_of
from step_faults import spoils

#: steps with a non-finite number; the run is stopped between them
BAD_STEPS = [3, 8]


def skipped_steps(sandbox: Sandbox, kind: str, *overrides: str) -> Outcome:
    """Two bad steps with SIGTERM between them; each is recomputed from its file."""
    spoilt = (*spoils(kind, steps=BAD_STEPS), *overrides)
    code = sandbox.finish(sandbox.command("name=nan", *spoilt, *sends(6)))
    problems = [] if code == 143 else [f"exit code {code} instead of 143"]
    problems += sandbox.resumed("nan", *spoilt)
    run = sandbox.run_of("nan")
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((run / "bad_steps").glob("*.json"))]
    problems += [] if sorted({report["step"] for report in reports}) == BAD_STEPS else [f"{len(reports)} reports"]
    problems += [f"replay: exit code {code}" for report in reports if (code := sandbox.finish(_replay(report["reproduce"])))]
    skipped = [float(row["train/skipped_steps"]) for row in rows_of(run) if "train/skipped_steps" in row][-1]
    problems += [] if skipped == len(BAD_STEPS) else [f"counted {skipped:g}"]
    problems += [] if _finite(run) else ["non-finite weights"]
    happened = f"skipped steps {' and '.join(map(str, BAD_STEPS))}, interrupted in between; recomputed from {len(reports)} files"
    return Outcome(f"{happened}; {'ended bit-identical' if not problems else '; '.join(problems[:3])}", nothing_lost=not problems)


def _replay(command: str) -> list[str]:
    """Return the command that a report gives, with this Python interpreter."""
    program, *arguments = shlex.split(command)
    assert program == "python", command
    return [sys.executable, *arguments]


def nan_in_every_step(sandbox: Sandbox) -> Outcome:
    """A NaN in every step from the fifth on stops the run; it is resumed after the cause is fixed."""
    code = sandbox.finish(sandbox.command("name=nan", *spoils("PoisonedLoss", steps=list(range(5, 13))), "optim.max_bad_steps=4"))
    advised = "4 training steps in a row" in sandbox.output() and "optim.lr" in sandbox.output() and "Traceback" not in sandbox.output()
    run = sandbox.run_of("nan")
    valid = _finite(run)
    resumed = sandbox.finish(sandbox.command("name=nan", "optim.max_bad_steps=4", "resume=true"))
    good = code == 2 and advised and valid and resumed == 0 and _finite(run) and (run / "metrics.json").is_file()
    happened = f"stopped with advice: {advised}, exit code {code}, checkpoint valid: {valid}; exit code {resumed} when fixed and resumed"
    return Outcome(happened, nothing_lost=good)


def _finite(run: Path) -> bool:
    return all(value.isfinite().all() for value in state_of(run)["state_dict"].values() if value.is_floating_point())


PAIR = ("trainer.devices=2", "trainer.accelerator=cpu")
EXPECTED = f"skips the step and saves it to a file; {IDENTICAL}"
FAULTS = [
    Fault("NaN in the loss", EXPECTED, partial(skipped_steps, kind="PoisonedLoss"), short=True),
    Fault("infinite gradient", EXPECTED, partial(skipped_steps, kind="PoisonedGradient")),
    Fault("NaN in one of two processes", f"both processes: {EXPECTED}", lambda sandbox: skipped_steps(sandbox, "PoisonedLoss", *PAIR)),
    Fault("NaN in every step", "stops with advice and exit code 2, with a valid checkpoint", nan_in_every_step),
]
