"""The configuration: does it compose, can every value work, has every option that was given an effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cis_seg.checkup.finding import Line, in_words, ok, problem, warning
from cis_seg.checkup.subject import Subject
from cis_seg.config_checks import problems
from cis_seg.config_effects import option_of, without_effect
from cis_seg.report import METRICS
from cis_seg.run_folder import checkpoints_of


def check_options(subject: Subject) -> Iterator[Line]:
    """Ranges, conflicts, options without effect, and whether the run is there already."""
    wrong = [problem(*in_words(error)) for error in problems(subject.typed)]
    yield from wrong
    idle = without_effect(subject.typed, [option_of(override) for override in subject.overrides])
    yield from (warning(line, "leave the option out, or change what it depends on") for line in idle)
    run = Path(subject.typed.paths.run)
    if not subject.typed.resume and (checkpoints_of(run) or (run / METRICS).is_file()):
        yield problem(f"the run {run} exists already", "continue it with resume=true, or give this one another name=... or seed=...")
    if not wrong:
        given = ", ".join(subject.overrides) or "nothing overridden"
        yield ok(f"composes ({given}); every value is in its range; run {run}")
