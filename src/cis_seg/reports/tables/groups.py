"""Runs that differ in their seed alone make a group; a group with OverlapLoss is compared with its control, seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cis_seg.errors import DataError
from cis_seg.reports.tables.runs import FIGURES, Protocol, Run


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; None where there are too few."""

    mean: float | None
    std: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """One experiment over its seeds; every run has the same protocol, lambda, reduction, steps and base."""

    runs: Mapping[int, Run]  # by seed

    @property
    def first(self) -> Run:
        """A run that speaks for all in everything but its figures."""
        return next(iter(self.runs.values()))

    def spread(self, column: str) -> Spread:
        """Over the seeds that have this figure."""
        return spread(run.figures[column] for run in self.runs.values())


@dataclass(frozen=True)
class Gain:
    """What a group has more than its control, by column of FIGURES; ``seeds`` are the paired ones."""

    control: Group
    seeds: tuple[int, ...]
    spreads: Mapping[str, Spread]


def spread(values: Iterable[float | None]) -> Spread:
    """Mean, spread and number of the values that there are."""
    known = [value for value in values if value is not None]
    return Spread(mean=statistics.fmean(known) if known else None, std=statistics.stdev(known) if len(known) > 1 else None, n=len(known))


def grouped(runs: Iterable[Run]) -> list[Group]:
    """Groups in the order of a table: by family; the base, the controls, then OverlapLoss by reduction and lambda.

    Raises:
        DataError: two results for one seed of one group, which would count it twice.
    """
    found: dict[tuple[object, ...], dict[int, Run]] = {}
    for run in runs:
        seeds = found.setdefault((run.protocol, run.name, run.weight, run.reduction, run.steps, run.base), {})
        if run.seed in seeds:
            raise DataError(
                f"two results for seed {run.seed} of {run.name}",
                where=f"{seeds[run.seed].path} and {run.path}",
                expected="one of each seed: twice the same would make the spread too small",
                remedy="name one of the two folders",
            )
        seeds[run.seed] = run
    groups = [Group({seed: seeds[seed] for seed in sorted(seeds)}) for seeds in found.values()]
    return sorted(groups, key=_place)


def by_protocol(groups: Iterable[Group]) -> dict[Protocol, list[Group]]:
    """The groups of each protocol, which share a table, in the order of the first of each."""
    parts: dict[Protocol, list[Group]] = {}
    for group in groups:
        parts.setdefault(group.first.protocol, []).append(group)
    return parts


def gain(group: Group, groups: Iterable[Group]) -> Gain | None:
    """The differences with - without OverlapLoss, or None where ``group`` has no OverlapLoss or nothing to compare with.

    The control has no OverlapLoss, and the same base, number of steps and protocol: the same extra iterations, as in
    the paper. Of several the one that shares most seeds is taken. Seeds that both have are compared pair by pair;
    where they share none, ``seeds`` is empty and the means are compared, which have no spread.
    """
    if not group.first.weight:
        return None
    controls = [other for other in groups if not other.first.weight and _footing(other.first) == _footing(group.first)]
    if not controls:
        return None
    control = max(controls, key=lambda other: len(other.runs.keys() & group.runs.keys()))
    seeds = tuple(seed for seed in group.runs if seed in control.runs)
    return Gain(control, seeds, {column: _difference(group, control, seeds, column) for column in FIGURES})


def mixed_protocols(groups: Iterable[Group]) -> list[str]:
    """A sentence for each experiment that was scored in more than one way."""
    tables: dict[str, list[Path]] = {}
    for protocol_groups in by_protocol(groups).values():
        for name in {group.first.name: group for group in protocol_groups}:
            folder = next(group.first.path for group in protocol_groups if group.first.name == name)
            tables.setdefault(name, []).append(folder)
    return [
        f"{name} was scored in {len(folders)} ways, which stand in tables of their own: {', '.join(map(str, folders))}"
        for name, folders in tables.items()
        if len(folders) > 1
    ]


def _place(group: Group) -> tuple[object, ...]:
    run = group.first
    stage = 2 if run.weight else int(run.base is not None)
    return run.family, stage, run.reduction, run.weight, run.steps, run.name


def _footing(run: Run) -> tuple[object, ...]:
    """What must be equal for a difference to speak of OverlapLoss alone."""
    return run.protocol, run.family, run.base, run.steps


def _difference(group: Group, control: Group, seeds: tuple[int, ...], column: str) -> Spread:
    if not seeds:
        with_, without = group.spread(column).mean, control.spread(column).mean
        return Spread(None if with_ is None or without is None else with_ - without, std=None, n=0)
    pairs = [(group.runs[seed].figures[column], control.runs[seed].figures[column]) for seed in seeds]
    return spread(None if with_ is None or without is None else with_ - without for with_, without in pairs)
