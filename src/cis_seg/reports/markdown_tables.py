"""The tables as Markdown: the paper's rows with ours below them, and a general table of all other runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from cis_seg.reports import paper_tables as paper
from cis_seg.reports.groups import Comparison, Group, Spread, by_protocol, gain, mixed_protocols, retention
from cis_seg.reports.paper_tables import BACKBONES, Row
from cis_seg.reports.runs import BASELINES, COLUMNS, CROWDING, Protocol, Run

EMPTY = "-"
TEXT_COLUMNS = 2  # left-aligned; the others are numbers
LEGEND = (
    "Mask AP in percent, mean ± sample standard deviation over the seeds. Overlap degree: Eq. 1 over touching predicted masks. "
    "Mask / box: median ratio of areas; it falls below that of the ground truth if a loss term shrinks the masks. "
    "A gain is the mean over common seeds of the difference with - without OverlapLoss or the teacher, after the same number of steps from "
    "the same base. "
    "Retained is the quotient of AP from boxes and AP of the same network trained from ground-truth masks, mean over common seeds."
)
CROWDING_LEGEND = "Crowding of a person: the largest IoU of their box with another person's."
RETAINED = ("AP", "AP50", "AP75", "APs", "APm", "APl", *CROWDING)  # columns with a quotient


def document(groups: Sequence[Group], skipped: Sequence[str]) -> str:
    """Return the document: the paper's tables as far as there are runs, the other runs, and notes."""
    parts = []
    for data, title in paper.TITLES.items():
        for protocol, own in by_protocol(g for g in groups if (row := _row(g)) is not None and row.data == data).items():
            caption = f"{paper.SOURCES[data]} {_caption(protocol)}"
            parts += [f"## {title}, shorter side {protocol.test_size}", caption, _aligned(_paper_rows(own, groups))]
    for protocol, others in by_protocol(g for g in groups if _row(g) is None).items():
        parts += ["## Runs", _caption(protocol), _aligned(_general_rows(others, groups))]
    for protocol, own in by_protocol(groups).items():
        if any(group.spread(column).n for group in own for column in CROWDING):
            caption = f"{protocol.scored_set}, shorter side {protocol.test_size}, {protocol.checkpoint}. {CROWDING_LEGEND}"
            parts += ["## Mask AP by crowding", caption, _aligned(_crowding_rows(own, groups))]
    notes = [*_without_control(groups), *mixed_protocols(groups), *skipped]
    parts += [LEGEND, *(["\n".join(f"- {note}" for note in notes)] if notes else [])]
    return "\n\n".join(parts) + "\n"


def number(spread: Spread, *, seeds: int, signed: bool = False) -> str:
    """Return ``12.30 ± 0.40``, followed by the count if some of the ``seeds`` lack the metric."""
    if spread.mean is None:
        return EMPTY
    text = f"{spread.mean:+.2f}" if signed else f"{spread.mean:.2f}"
    if spread.std is not None:
        text += f" ± {spread.std:.2f}"
    return text if spread.n == seeds else f"{text} (of {spread.n})"


def _row(group: Group) -> Row | None:
    """Return the row of the paper that corresponds to a group."""
    return paper.row_of(group.first.name, group.first.weight)


def _caption(protocol: Protocol) -> str:
    """Describe the protocol of our runs, and the baselines that depend on the ground truth alone."""
    box, ellipse, _ = (EMPTY if value is None else f"{value:.2f}" for value in protocol.baselines)
    return (
        f"Ours: {protocol.scored_set}, {protocol.num_images} images, {protocol.num_annotations} annotations; shorter side "
        f"{protocol.test_size}, longer at most {protocol.max_size}; areas: {protocol.area}; score threshold {protocol.score_threshold}; "
        f"{protocol.checkpoint}{f'; masks {protocol.masks}' if protocol.masks else ''}. "
        f"Baselines (AP50): filled ground-truth boxes {box}, their inscribed ellipses {ellipse}."
    )


def _heads(protocol: Protocol) -> list[str]:
    """Return the column titles; that of the ratio of areas includes the ground truth's."""
    ratio = protocol.baselines[list(BASELINES).index("mask / box")]
    heads = {"overlap degree": "overlap degree %", "mask / box": "mask / box" + ("" if ratio is None else f" (ground truth {ratio:.2f})")}
    return [heads.get(column, column) for column in COLUMNS]


def _paper_rows(own: Sequence[Group], groups: Sequence[Group]) -> list[list[str]]:
    """Return the rows of all backbones that have runs, in the paper's order."""
    rows = [["backbone", "", "steps", "seeds", *_heads(own[0].first.protocol)]]
    for backbone, title in BACKBONES.items():
        members = [(row, group) for group in own if (row := _row(group)) is not None and row.backbone == backbone]
        rows += [[title, *cells] for cells in _backbone_rows(members, groups)]
    return rows


def _backbone_rows(members: Sequence[tuple[Row, Group]], groups: Sequence[Group]) -> list[list[str]]:
    """Return the paper's row and ours without OverlapLoss, then both with it and the gains, without the first column."""
    rows: list[list[str]] = []
    control: dict[str, float] = {}
    for method, overlap in (("BoxInst", False), ("+ OverlapLoss", True)) if members else ():
        row, protocol = replace(members[0][0], overlap=overlap), members[0][1].first.protocol
        theirs = paper.metrics(row, test_size=protocol.test_size, area=protocol.area)
        rows += [[f"{method}, paper", "", "", *_paper_cells(theirs)]] if theirs else []
        if control and theirs:
            difference = {column: theirs[column] - control[column] for column in theirs}
            rows.append(["gain, paper", "", "", *_paper_cells(difference, signed=True)])
        for group in (group for own, group in members if own.overlap == overlap):
            rows.append([f"{method}, ours{_setting(group.first)}", *_cells(group)])
            rows += _comparison_rows(group, groups)
        control = theirs
    return rows


def _general_rows(own: Sequence[Group], groups: Sequence[Group]) -> list[list[str]]:
    """Return one row per group, followed by its comparisons."""
    rows = [["name", "reduction", "lambda", "steps", "seeds", *_heads(own[0].first.protocol)]]
    for group in own:
        rows.append([group.first.name, group.first.reduction or EMPTY, f"{group.first.weight:g}", *_cells(group)])
        rows += [[title, "", "", *cells] for title, *cells in _comparison_rows(group, groups)]
    return rows


def _crowding_rows(own: Sequence[Group], groups: Sequence[Group]) -> list[list[str]]:
    """Return one row per group with AP by crowding, followed by its comparisons."""
    rows = [["name", "steps", "seeds", *CROWDING]]
    for group in own:
        rows.append([group.first.name, *_cells(group, CROWDING)])
        rows += _comparison_rows(group, groups, CROWDING)
    return rows


def _comparison_rows(group: Group, groups: Sequence[Group], columns: Collection[str] = tuple(COLUMNS)) -> list[list[str]]:
    """Return rows with title, steps, number of paired seeds and values: the gain over the control, and what is retained of training
    from masks; no row without the other group.
    """
    rows = []
    if (found := gain(group, groups)) is not None:
        rows.append(_comparison_row(f"gain over {found.control.first.name}", group, found, columns, signed=True))
    if (found := retention(group, groups)) is not None:
        rows.append(_comparison_row(f"retained of {found.control.first.name}", group, found, columns, signed=False))
    return rows


def _comparison_row(title: str, group: Group, found: Comparison, columns: Collection[str], *, signed: bool) -> list[str]:
    seeds = len(found.seeds)
    cells = [number(found.spreads[column], seeds=seeds, signed=signed) if signed or column in RETAINED else EMPTY for column in columns]
    return [title + ("" if seeds else " (of means)"), str(group.first.steps), str(seeds or EMPTY), *cells]


def _without_control(groups: Sequence[Group]) -> list[str]:
    """Return one sentence for each group with OverlapLoss or a teacher that has no control."""
    return [
        f"{group.first.name} (lambda {group.first.weight:g}) has no control: a run with {_control(group.first)} from the same base "
        f"({group.first.base or 'none'}), with {group.first.steps} steps and the same protocol ({group.first.path})"
        for group in groups
        if (group.first.weight or group.first.teacher) and gain(group, groups) is None
    ]


def _control(run: Run) -> str:
    return f"lambda {run.weight:g} and no teacher" if run.teacher else "lambda 0"


def _cells(group: Group, columns: Collection[str] = tuple(COLUMNS)) -> list[str]:
    """Return steps, number of seeds and metrics."""
    seeds = len(group.runs)
    return [str(group.first.steps), str(seeds), *(number(group.spread(column), seeds=seeds) for column in columns)]


def _paper_cells(metrics: Mapping[str, float], *, signed: bool = False) -> list[str]:
    return [number(Spread(metrics.get(column), std=None, n=1), seeds=1, signed=signed) for column in COLUMNS]


def _setting(run: Run) -> str:
    teacher = f", teacher {run.teacher:g}" if run.teacher else ""
    return (f", lambda {run.weight:g}, {run.reduction}" if run.weight else "") + teacher


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table padded to equal widths, so that it is readable as plain text too; numbers align right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [("<" if index < TEXT_COLUMNS else ">") + str(width) for index, width in enumerate(widths)]
    rule = ["-" * width if index < TEXT_COLUMNS else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    lines = [[f"{cell:{spec}}" for cell, spec in zip(row, aligned, strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
