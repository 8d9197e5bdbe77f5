"""The tables on disk: Markdown, a CSV with one row per run, one with one row per group, and a plot of the metrics against lambda."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cis_seg.reports.groups import Group, Spread, by_protocol, gain, spread
from cis_seg.reports.runs import COLUMNS, CROWDING, Protocol, Run

Cell = str | int | float | None


def write(output: Path, document: str, groups: Sequence[Group]) -> list[Path]:
    """Write ``tables.md``, ``runs.csv``, ``groups.csv`` and, if lambda has several values, ``lambda.png``; return their paths."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "tables.md").write_text(document, encoding="utf-8")
    _write_csv(output / "runs.csv", [_run_row(run) for group in groups for run in group.runs.values()])
    _write_csv(output / "groups.csv", [_group_row(group, groups) for group in groups])
    written = [output / name for name in ("tables.md", "runs.csv", "groups.csv")]
    return written + ([output / "lambda.png"] if draw(groups, output / "lambda.png") else [])


def _run_row(run: Run) -> dict[str, Cell]:
    return {**_experiment(run), "seed": run.seed, **run.metrics, "path": str(run.path)}


def _group_row(group: Group, groups: Sequence[Group]) -> dict[str, Cell]:
    """Return mean, standard deviation and count of each metric, and of its gain over the control."""
    row: dict[str, Cell] = {**_experiment(group.first), "seeds": " ".join(map(str, group.runs))}
    found = gain(group, groups)
    row["control"] = None if found is None else found.control.first.name
    for column in COLUMNS | CROWDING:
        spread = group.spread(column)
        row |= {f"{column} mean": spread.mean, f"{column} std": spread.std, f"{column} n": spread.n}
        difference = Spread(None, std=None, n=0) if found is None else found.spreads[column]
        row |= {f"{column} gain": difference.mean, f"{column} gain std": difference.std, f"{column} gain pairs": difference.n}
    return row


def _experiment(run: Run) -> dict[str, Cell]:
    """Return the columns that describe the training and the protocol."""
    protocol = run.protocol
    return {
        "name": run.name,
        "lambda": run.weight,
        "reduction": run.reduction,
        "teacher": run.teacher,
        "steps": run.steps,
        "base": run.base,
        "scored set": protocol.scored_set,
        "images": protocol.num_images,
        "annotations": protocol.num_annotations,
        "area": protocol.area,
        "test size": protocol.test_size,
        "max size": protocol.max_size,
        "score threshold": protocol.score_threshold,
        "checkpoint": protocol.checkpoint,
    }


def _write_csv(path: Path, rows: Sequence[dict[str, Cell]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


PANELS = {"AP": "mask AP (%)", "AP50": "mask AP50 (%)", "overlap degree": "overlap degree (%)"}
PANEL_INCHES = (3.6, 3.6)

#: label -> lambda -> runs
Series = dict[str, dict[float, list[Run]]]


def draw(groups: Sequence[Group], path: Path) -> bool:
    """Draw each series of runs that differ only in lambda, with one row of panels per protocol and reduction.

    Reductions have separate panels, because the same lambda has gradients of different size.

    Returns:
        Whether a plot was written, which needs a series with two values of lambda.
    """
    reductions = sorted({group.first.reduction for group in groups if group.first.weight and not group.first.teacher})
    parts = [(protocol, members, reduction) for protocol, members in by_protocol(groups).items() for reduction in reductions]
    found = [(_title(protocol, reduction), series) for protocol, members, reduction in parts if (series := _series(members, reduction))]
    if not found:
        return False
    size = PANEL_INCHES[0] * len(PANELS), PANEL_INCHES[1] * len(found)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06))
    rows = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for part, (title, series) in zip(rows, found, strict=True):
        part.suptitle(title, fontsize="medium")
        panels = part.subplots(1, len(PANELS))
        for axes, (column, label) in zip(panels, PANELS.items(), strict=True):
            _panel(axes, series, column)
            axes.set(xlabel="lambda", ylabel=label)
        part.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
    return True


def _series(groups: Sequence[Group], reduction: str) -> Series:
    """Collect runs by family, base and number of steps; the control (lambda 0) starts the series of every reduction."""
    found: Series = {}
    for group in sorted(groups, key=lambda group: group.first.weight):
        run = group.first
        if run.reduction in ("", reduction) and not run.teacher:
            label = f"{run.family}, {run.steps} steps" + (f" from {run.base}" if run.base else "")
            found.setdefault(label, {}).setdefault(run.weight, []).extend(group.runs.values())
    return {label: lambdas for label, lambdas in found.items() if len(lambdas) > 1}


def _panel(axes: Axes, series: Series, column: str) -> None:
    """Draw means with standard deviations as a line, and each seed as a dot."""
    for label, lambdas in series.items():
        spreads = {weight: spread(run.metrics[column] for run in runs) for weight, runs in lambdas.items()}
        known = [(weight, found.mean, found.std or 0.0) for weight, found in spreads.items() if found.mean is not None]
        weights, means, errors = [weight for weight, _, _ in known], [mean for _, mean, _ in known], [error for _, _, error in known]
        line = axes.errorbar(weights, means, errors, marker="o", capsize=3, label=label)
        dots = [(weight, value) for weight, runs in lambdas.items() for run in runs if (value := run.metrics[column]) is not None]
        axes.scatter([weight for weight, _ in dots], [value for _, value in dots], s=10, alpha=0.4, color=line[0].get_color())
    axes.grid(alpha=0.3)


def _title(protocol: Protocol, reduction: str) -> str:
    scored = f"{protocol.scored_set}, {protocol.num_images} images, shorter side {protocol.test_size}, {protocol.checkpoint}"
    return f"reduction {reduction}: {scored}"
