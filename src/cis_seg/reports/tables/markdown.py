"""The tables as Markdown: the paper's rows with ours below them, and a general table for all other runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cis_seg.reports.tables import paper
from cis_seg.reports.tables.groups import Group, Spread, by_protocol, gain, mixed_protocols
from cis_seg.reports.tables.paper import BACKBONES, Row
from cis_seg.reports.tables.runs import FIGURES, FLOORS, Protocol, Run

EMPTY = "-"
TEXT_COLUMNS = 2  # what a row is; all others are numbers
LEGEND = (
    "Mask AP in percent, mean ± sample standard deviation over the seeds. Overlap degree: Eq. 1 of touching predicted masks; "
    "mask / box: median ratio of areas, which falls below the truth's where a term empties the masks. "
    "A gain is the mean of the differences seed by seed, with - without OverlapLoss after the same number of steps from the same base; "
    "its seeds are those that both have."
)


def document(groups: Sequence[Group], left_out: Sequence[str]) -> str:
    """Everything: the paper's tables that there are runs of, the other runs, and what was left out or kept apart."""
    parts = []
    for data, title in paper.TITLES.items():
        for protocol, own in by_protocol(g for g in groups if (row := _row(g)) is not None and row.data == data).items():
            caption = f"{paper.SOURCES[data]} {_caption(protocol)}"
            parts += [f"## {title}, shorter side {protocol.test_size}", caption, _aligned(_paper_rows(own, groups))]
    for protocol, others in by_protocol(g for g in groups if _row(g) is None).items():
        parts += ["## Runs", _caption(protocol), _aligned(_general_rows(others, groups))]
    notes = [*_without_control(groups), *mixed_protocols(groups), *left_out]
    parts += [LEGEND, *(["\n".join(f"- {note}" for note in notes)] if notes else [])]
    return "\n\n".join(parts) + "\n"


def number(spread: Spread, *, seeds: int, signed: bool = False) -> str:
    """``12.30 ± 0.40``; where some of the ``seeds`` lack the figure, how many have it."""
    if spread.mean is None:
        return EMPTY
    text = f"{spread.mean:+.2f}" if signed else f"{spread.mean:.2f}"
    if spread.std is not None:
        text += f" ± {spread.std:.2f}"
    return text if spread.n == seeds else f"{text} (of {spread.n})"


def _row(group: Group) -> Row | None:
    """The row of the paper that a group stands for."""
    return paper.row_of(group.first.name, group.first.weight)


def _caption(protocol: Protocol) -> str:
    """How ours were scored, and what of it the truth alone decides."""
    box, ellipse, _ = (EMPTY if value is None else f"{value:.2f}" for value in protocol.floors)
    return (
        f"Ours: {protocol.scored_set}, {protocol.num_images} images, {protocol.num_annotations} annotations; shorter side "
        f"{protocol.test_size}, longer at most {protocol.max_size}; areas: {protocol.area}; scores from {protocol.score_threshold}; "
        f"{protocol.checkpoint}. AP50 of true boxes filled in {box}, of ellipses in them {ellipse}."
    )


def _heads(protocol: Protocol) -> list[str]:
    """The figures' heads; the truth's own ratio of areas stands where it is compared."""
    ratio = protocol.floors[list(FLOORS).index("mask / box")]
    heads = {"overlap degree": "overlap degree %", "mask / box": "mask / box" + ("" if ratio is None else f" (truth {ratio:.2f})")}
    return [heads.get(column, column) for column in FIGURES]


def _paper_rows(own: Sequence[Group], groups: Sequence[Group]) -> list[list[str]]:
    """The backbones in the paper's order, as far as there are runs of them."""
    rows = [["backbone", "", "steps", "seeds", *_heads(own[0].first.protocol)]]
    for backbone, title in BACKBONES.items():
        members = [(row, group) for group in own if (row := _row(group)) is not None and row.backbone == backbone]
        rows += [[title, *cells] for cells in _backbone_rows(members, groups)]
    return rows


def _backbone_rows(members: Sequence[tuple[Row, Group]], groups: Sequence[Group]) -> list[list[str]]:
    """The paper's row and ours without OverlapLoss, then with it and with the gains; without the backbone's title."""
    rows: list[list[str]] = []
    control: dict[str, float] = {}
    for method, overlap in (("BoxInst", False), ("+ OverlapLoss", True)) if members else ():
        row, protocol = replace(members[0][0], overlap=overlap), members[0][1].first.protocol
        theirs = paper.figures(row, test_size=protocol.test_size, area=protocol.area)
        rows += [[f"{method}, paper", "", "", *_paper_cells(theirs)]] if theirs else []
        if control and theirs:
            difference = {column: theirs[column] - control[column] for column in theirs}
            rows.append(["gain, paper", "", "", *_paper_cells(difference, signed=True)])
        for group in (group for own, group in members if own.overlap == overlap):
            rows.append([f"{method}, ours{_setting(group.first)}", *_cells(group)])
            rows += _gain_rows(group, groups)
        control = theirs
    return rows


def _general_rows(own: Sequence[Group], groups: Sequence[Group]) -> list[list[str]]:
    """Every group by name, a gain below each that has a control."""
    rows = [["name", "reduction", "lambda", "steps", "seeds", *_heads(own[0].first.protocol)]]
    for group in own:
        rows.append([group.first.name, group.first.reduction or EMPTY, f"{group.first.weight:g}", *_cells(group)])
        rows += [[title, "", "", *cells] for title, *cells in _gain_rows(group, groups)]
    return rows


def _gain_rows(group: Group, groups: Sequence[Group]) -> list[list[str]]:
    """What the gain is over, steps, pairs of seeds and differences; nothing for a group without a control."""
    found = gain(group, groups)
    if found is None:
        return []
    title = f"gain over {found.control.first.name}" + ("" if found.seeds else " (of means)")
    cells = [number(spread, seeds=len(found.seeds), signed=True) for spread in found.spreads.values()]
    return [[title, str(group.first.steps), str(len(found.seeds) or EMPTY), *cells]]


def _without_control(groups: Sequence[Group]) -> list[str]:
    """A sentence for each group whose gain cannot be told."""
    return [
        f"{group.first.name} (lambda {group.first.weight:g}) has no control here: a run with lambda 0 from the same base "
        f"({group.first.base or 'none'}), with {group.first.steps} steps, scored in the same way ({group.first.path})"
        for group in groups
        if group.first.weight and gain(group, groups) is None
    ]


def _cells(group: Group) -> list[str]:
    """Steps, number of seeds and figures."""
    seeds = len(group.runs)
    return [str(group.first.steps), str(seeds), *(number(group.spread(column), seeds=seeds) for column in FIGURES)]


def _paper_cells(figures: Mapping[str, float], *, signed: bool = False) -> list[str]:
    return [number(Spread(figures.get(column), std=None, n=1), seeds=1, signed=signed) for column in FIGURES]


def _setting(run: Run) -> str:
    return f", lambda {run.weight:g}, {run.reduction}" if run.weight else ""


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand below each other on a screen too; after the first two, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width if place < TEXT_COLUMNS else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    lines = [
        [
            cell.ljust(width) if place < TEXT_COLUMNS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
