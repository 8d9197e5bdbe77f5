"""Groups of runs that differ only in their seed, and the gain of OverlapLoss or of a teacher over its control, seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cis_seg.errors import DataError
from cis_seg.reports.runs import COLUMNS, CROWDING, Protocol, Run


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; None if there are too few values."""

    mean: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """One experiment over its seeds. All runs have the same protocol, lambda, reduction, steps and base."""

    runs: Mapping[int, Run]  # by seed

    @property
    def first(self) -> Run:
        """The run of the first seed; it represents the group in everything but its metrics."""
        return next(iter(self.runs.values()))

    def spread(self, column: str) -> Spread:
        """Return the spread over the seeds that have this metric."""
        return spread(run.metrics[column] for run in self.runs.values())


@dataclass(frozen=True)
class Comparison:
    """A group beside its control: differences or quotients by column of COLUMNS and CROWDING; ``seeds`` are the paired ones."""

    control: Group
    seeds: tuple[int, ...]
    spreads: Mapping[str, Spread]


def spread(values: Iterable[float | None]) -> Spread:
    """Return the spread of the values that are not None."""
    known = [value for value in values if value is not None]
    return Spread(mean=statistics.fmean(known) if known else None, std=statistics.stdev(known) if len(known) > 1 else None, n=len(known))


def grouped(runs: Iterable[Run]) -> list[Group]:
    """Group runs by everything but the seed.

    Returns:
        The groups in table order: by family, and within a family the base, the controls, OverlapLoss by reduction and lambda, then
        those with a teacher.

    Raises:
        DataError: a group has two results for one seed, which would count it twice.
    """
    found: dict[tuple[object, ...], dict[int, Run]] = {}
    for run in runs:
        seeds = found.setdefault((run.protocol, run.name, run.supervision, run.weight, run.reduction, run.teacher, run.steps, run.base), {})
        if run.seed in seeds:
            raise DataError(
                f"two results for seed {run.seed} of {run.name}",
                where=f"{seeds[run.seed].path} and {run.path}",
                expected="one result per seed: a duplicate would make the spread too small",
                remedy="pass only one of the two folders",
            )
        seeds[run.seed] = run
    groups = [Group({seed: seeds[seed] for seed in sorted(seeds)}) for seeds in found.values()]
    return sorted(groups, key=_table_order)


def by_protocol(groups: Iterable[Group]) -> dict[Protocol, list[Group]]:
    """Return the groups that share a table, by protocol, in order of first appearance."""
    parts: dict[Protocol, list[Group]] = {}
    for group in groups:
        parts.setdefault(group.first.protocol, []).append(group)
    return parts


def gain(group: Group, groups: Iterable[Group]) -> Comparison | None:
    """Return the differences with - without OverlapLoss, or with - without the teacher; None without either or without a control.

    The control has lambda 0 and the same base, number of steps and protocol: the same extra iterations, as in the paper. The control of
    a group with a teacher has the same lambda and no teacher.
    Among several controls, the one that shares most seeds is used. Seeds that both have are compared pair by pair; if
    they share none, ``seeds`` is empty and the means are compared, without a standard deviation.
    """
    run = group.first
    if not run.weight and not run.teacher:
        return None
    wanted = (run.weight, run.reduction, 0.0) if run.teacher else (0.0, "", 0.0)
    controls = [
        other
        for other in groups
        if (other.first.weight, other.first.reduction, other.first.teacher) == wanted and _comparable(other.first) == _comparable(run)
    ]
    if not controls:
        return None
    return _compared(group, controls, lambda value, of_control: value - of_control)


def retention(group: Group, groups: Iterable[Group]) -> Comparison | None:
    """Return how much of AP the boxes retain: the quotients of ``group``, trained from boxes, and the group trained from masks.

    The latter has ``supervision=mask`` and the same family and protocol; None without one. Seeds are paired as in ``gain``.
    """
    first = group.first
    supervised = [
        o for o in groups if o.first.supervision == "mask" and (o.first.family, o.first.protocol) == (first.family, first.protocol)
    ]
    if first.supervision == "mask" or not supervised:
        return None
    return _compared(group, supervised, lambda value, of_control: value / of_control if of_control else None)


def mixed_protocols(groups: Iterable[Group]) -> list[str]:
    """Return one sentence for each experiment that was evaluated under more than one protocol."""
    folders: dict[str, dict[Protocol, str]] = {}
    for group in groups:
        folders.setdefault(group.first.name, {}).setdefault(group.first.protocol, str(group.first.path))
    return [
        f"{name} was evaluated in {len(by)} ways, which have separate tables: {', '.join(by.values())}"
        for name, by in folders.items()
        if len(by) > 1
    ]


def _table_order(group: Group) -> tuple[object, ...]:
    run = group.first
    stage = 3 if run.teacher else 2 if run.weight else int(run.base is not None)
    return run.family, stage, run.reduction, run.weight, run.teacher, run.steps, run.name


def _comparable(run: Run) -> tuple[object, ...]:
    """What must be equal for a difference to be due to OverlapLoss or the teacher alone."""
    return run.protocol, run.supervision, run.family, run.base, run.steps


def _compared(group: Group, controls: Iterable[Group], compare: Callable[[float, float], float | None]) -> Comparison:
    """Compare with the control that shares most seeds."""
    control = max(controls, key=lambda other: len(other.runs.keys() & group.runs.keys()))
    seeds = tuple(seed for seed in group.runs if seed in control.runs)

    def both(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else compare(a, b)

    def compared(column: str) -> Spread:
        if not seeds:
            return Spread(both(group.spread(column).mean, control.spread(column).mean), std=None, n=0)
        return spread(both(group.runs[seed].metrics[column], control.runs[seed].metrics[column]) for seed in seeds)

    return Comparison(control, seeds, {column: compared(column) for column in COLUMNS | CROWDING})
