"""``python -m cis_seg.doctor [--json FILE] [overrides]``: check whether a training would run, and say what to fix.

Takes the overrides of ``python -m cis_seg.train``. The checks are independent: with missing libraries, corrupt data or a typo in the
configuration, the others still report. So only the standard library is imported before a check needs more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cis_seg.diagnostics import machine
from cis_seg.diagnostics.findings import Finding, Line, Status, findings_of, print_findings, write_json

if TYPE_CHECKING:
    from cis_seg.diagnostics.subject import Subject

CheckOfRun = Callable[["Subject"], Iterable[Line]]


def examine(overrides: Sequence[str], *, trial: bool = True) -> Iterator[Finding]:
    """Yield every finding about this machine and the run that ``overrides`` describe.

    Args:
        overrides: as for ``python -m cis_seg.train``.
        trial: also train for two steps, unless a problem prevents it.
    """
    yield from findings_of("Python", machine.check_python)
    yield from findings_of("libraries", machine.check_libraries)
    yield from findings_of("processors", machine.check_processors)
    yield from findings_of("GPUs", machine.check_gpus)
    subjects: list[Subject] = []
    yield from findings_of("configuration", partial(_compose, overrides, subjects))
    if has_config_errors(subjects):
        yield Finding("the run", Status.WARNING, "not checked: its options have errors", "fix them, then run doctor again")
    else:
        yield from _examine_run(subjects[0], trial=trial)


def has_config_errors(subjects: Sequence[Subject]) -> bool:
    """Whether the configuration does not compose or breaks a rule."""
    if not subjects:
        return True
    from cis_seg.config.validation import problems

    return next(problems(subjects[0].typed), None) is not None


def _compose(overrides: Sequence[str], subjects: list[Subject]) -> Iterator[Line]:
    from cis_seg.diagnostics.subject import Subject, check_options

    subject = Subject(overrides)
    subjects.append(subject)
    yield from check_options(subject)


def _examine_run(subject: Subject, *, trial: bool) -> Iterator[Finding]:
    """Run the checks that depend on the configuration; a problem in one does not stop the next."""
    from cis_seg.diagnostics import dataset, resources

    checks: dict[str, CheckOfRun] = {
        "devices": machine.check_devices,
        "memory format": machine.check_memory_format,
        "disk": resources.check_disk,
        "sharing": resources.check_sharing,
        "weights": dataset.check_weights,
        "data": dataset.check_data,
    }
    blocked = False
    for name, check in checks.items():
        for finding in findings_of(name, partial(check, subject)):
            blocked |= finding.status == Status.PROBLEM and name in ("devices", "data")
            yield finding
    if trial and blocked:
        yield Finding("trial", Status.WARNING, "not run: a problem above prevents it", "fix that, then run doctor again")
    elif trial:
        from cis_seg.diagnostics.resources import check_speed
        from cis_seg.diagnostics.trial import check_trial

        yield from findings_of("precision", partial(check_speed, subject))
        yield from findings_of("trial", partial(check_trial, subject))


def main(arguments: Sequence[str] | None = None, prog: str = "python -m cis_seg.doctor") -> int:
    """Return the exit code: 0, or 1 if a run would fail."""
    parser = argparse.ArgumentParser(prog=prog, description="Check whether a training would run and what to fix.")
    parser.add_argument("overrides", nargs="*", help="as for train")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings there")
    parser.add_argument("--no-trial", action="store_true", help="do not train for two steps")
    args = parser.parse_intermixed_args(arguments)  # flags may stand between overrides
    findings = list(examine(args.overrides, trial=not args.no_trial))
    print_findings(findings)
    if args.json is not None:
        write_json(args.json, findings)
    return 1 if any(finding.status == Status.PROBLEM for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
