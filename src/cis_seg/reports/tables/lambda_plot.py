"""AP, AP50 and overlap degree against lambda, the weight of OverlapLoss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cis_seg.reports.groups import Group, by_protocol, spread
from cis_seg.reports.runs import Protocol, Run

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
    reductions = sorted({group.first.reduction for group in groups if group.first.weight})
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
        if run.reduction in ("", reduction):
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
