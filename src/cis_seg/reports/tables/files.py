"""The tables on disk: Markdown, a CSV with one row per run, one with one row per group, and the plot against lambda."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cis_seg.reports.groups import Group, Spread, gain
from cis_seg.reports.runs import COLUMNS, Run
from cis_seg.reports.tables.lambda_plot import draw

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
    for column in COLUMNS:
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
