"""The W&B workspace that shows whether and where OverlapLoss helps: its definition, and its creation online."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cis_seg.errors import ConfigError
from cis_seg.evaluation.baselines import CROWD_BINS
from cis_seg.training.metrics import (
    BOX_TERMS,
    CHARTS,
    FINAL,
    LEARNING_RATE,
    PEAK_CUDA,
    PEAK_RSS,
    PROMISED_WITH_OVERLAP,
    PROMISED_WITH_TEACHER,
    RAW,
    RESULTS,
    SPEED,
    STEP,
    WEIGHTED,
)

NAME = "Did OverlapLoss help"
PROJECT = "cis_seg"  # as conf/logger/wandb.yaml names it
PACKAGE = "wandb-workspaces"
OFFLINE_MODES = ("offline", "dryrun", "disabled")
CONNECT_SECONDS = 20  # without a network W&B would otherwise retry for minutes
#: preset and fields of the precision-recall chart, as ``wandb.plot.line_series`` writes them
LINE_CHART = "wandb/lineseries/v0"
LINE_FIELDS = {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}

Panel = dict[str, Any]


def definition(project: str) -> dict[str, Any]:
    """Return the workspace of ``[entity/]project`` as plain data.

    Rows are grouped by family and stage, so that the list of runs is the paper's Table 1: for pretrain, control and overlap of each
    network, the mean over seeds of the last step's scores.
    """
    entity, _, name = project.rpartition("/")
    return {
        "name": NAME,
        "entity": entity,
        "project": name,
        "group_by": ["Group", "JobType"],
        "columns": [f"summary:{key}" for key in FINAL],
        "x_axis": STEP,
        "sections": [
            {"name": "Scores", "panels": _scores()},
            {"name": "By crowding", "panels": [_curve(f"mask AP, crowding {b}", [f"val/segm_AP_crowd_{b}"]) for b in CROWD_BINS]},
            {"name": "Precision over recall", "panels": [_precision(kind, key) for kind, key in CHARTS.items()]},
            {"name": "OverlapLoss", "panels": [_curve(key, [key]) for key in PROMISED_WITH_OVERLAP]},
            {"name": "Teacher", "panels": [_curve(key, [key]) for key in PROMISED_WITH_TEACHER]},
            {"name": "Losses", "panels": _losses()},
            {"name": "Cost", "panels": [_curve(key, [key]) for key in (SPEED, PEAK_RSS, PEAK_CUDA, LEARNING_RATE)]},
            {"name": "Images", "panels": [{"kind": "table", "title": RESULTS, "table": RESULTS}]},
        ],
    }


def _scores() -> list[Panel]:
    bars = [{"kind": "bar", "title": f"{key.removeprefix('final/')}, last step", "metrics": [key]} for key in FINAL]
    curves = [("mask AP", "val/segm_AP"), ("mask AP50", "val/segm_AP50"), ("box AP50", "val/bbox_AP50")]
    shapes = [("overlap degree of predictions (Eq. 1)", "val/overlap_mean_degree"), ("mask area / box area", "val/shape_mask_to_box")]
    return [*bars, *(_curve(title, [key]) for title, key in [*curves, *shapes])]


def _losses() -> list[Panel]:
    terms = (*BOX_TERMS, "overlap")
    raw = [_curve(f"{RAW}{term}", [f"{RAW}{term}"]) for term in terms]
    return [_curve("loss", ["train/loss"]), _curve("weighted terms", [f"{WEIGHTED}{term}" for term in terms]), *raw]


def _precision(kind: str, chart: str) -> Panel:
    return {"kind": "pr", "title": {"segm": "masks", "bbox": "boxes"}[kind], "table": f"{chart}_table"}


def _curve(title: str, metrics: Sequence[str]) -> Panel:
    return {"kind": "curve", "title": title, "metrics": list(metrics)}


def create(defined: Mapping[str, Any]) -> str:
    """Create the workspace at W&B and return its URL.

    Raises:
        ConfigError: the optional package is missing, W&B is offline, nobody is logged in, or the server refuses the request.
    """
    import wandb

    dry = "print the definition with --dry-run"
    if os.environ.get("WANDB_MODE", "online") in OFFLINE_MODES:
        found = f"WANDB_MODE={os.environ['WANDB_MODE']}"
        raise ConfigError("a workspace is created on W&B's server, and W&B is offline", found=found, remedy=f"unset it, or {dry}")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        remedy = f"pip install {PACKAGE}, or {dry}"
        raise ConfigError(f"a workspace needs the package {PACKAGE}", found="it is not installed", remedy=remedy) from error
    try:
        entity = defined["entity"] or wandb.Api(timeout=CONNECT_SECONDS).default_entity
        return str(build(dict(defined, entity=entity)).save().url)
    except (wandb.Error, OSError, ValueError) as error:
        where = f"project {defined['project']} of {defined['entity'] or 'your default entity'}"
        remedy = f"log in while online (wandb login) and check [entity/]project, or {dry}"
        raise ConfigError("W&B could not create the workspace", where=where, found=error, remedy=remedy) from error


def build(defined: Mapping[str, Any]) -> Any:
    """Return the ``wandb_workspaces.workspaces.Workspace`` of a definition, without sending it; W&B generates panels for other keys."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=section["name"], panels=[_panel(panel) for panel in section["panels"]], is_open=index < 2)
        for index, section in enumerate(defined["sections"])
    ]
    return ws.Workspace(
        name=defined["name"],
        entity=defined["entity"],
        project=defined["project"],
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=defined["x_axis"]),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric(key) for key in defined["group_by"]], pinned_columns=defined["columns"]),
        auto_generate_panels=True,
    )


def _panel(panel: Panel) -> Any:
    from wandb_workspaces.reports.v2 import interface as wr

    title = panel["title"]
    if panel["kind"] == "curve":
        return wr.LinePlot(title=title, x=STEP, y=panel["metrics"])
    if panel["kind"] == "bar":
        return wr.BarPlot(title=title, metrics=panel["metrics"], groupby_aggfunc="mean", groupby_rangefunc="stddev")
    if panel["kind"] == "pr":
        chart = wr.CustomChart.from_table(panel["table"], chart_fields=LINE_FIELDS, chart_strings={"title": title, "xname": "recall"})
        chart.chart_name = LINE_CHART
        return chart
    assert panel["kind"] == "table"
    return wr.WeavePanelSummaryTable(table_name=panel["table"])
