"""The validation in W&B: all scores, precision-recall curves, and the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger

from cis_seg.evaluation.metrics import Curves
from cis_seg.training.metrics import CHARTS, FINAL, STEP, EvaluationResult, summaries
from cis_seg.training.module import HEADLINES, SCORED_SETS

KINDS = {"segm": "masks", "bbox": "boxes"}


class Dashboard(L.Callback):
    """Define axes and summaries of W&B's run, and log charts and final scores; does nothing for other loggers.

    Logs the module's ``EvaluationResult``: nothing is scored twice. Scores of single categories are only in ``metrics.json``; those of
    COCO's eighty would fill most of the page.
    """

    def __init__(self) -> None:
        self._result: EvaluationResult | None = None

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._result = result

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: Any = pl_module
        terms = [term for term, weight in module.criterion.weights.items() if weight]
        for run in wandb_runs(trainer):
            for name, kept in summaries(terms).items():
                run.define_metric(name, step_metric=STEP, summary=kept)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert self._result is not None
        scores = all_scores(self._result.metrics)
        logged = {name: value for name, value in scores.items() if name not in _LOGGED_BY_MODULE}
        for run in wandb_runs(trainer):
            charts = pr_charts(self._result.curves[SCORED_SETS[0]])
            run.log(logged | charts | {STEP: trainer.global_step - 1})
            if is_last(trainer):
                run.summary.update({name: scores[key] for name in FINAL if (key := name.replace("final/", "val/")) in scores})


def wandb_runs(trainer: L.Trainer) -> list[Any]:
    """Return W&B's run objects in the process that logs; empty with other loggers."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)] if trainer.is_global_zero else []


def is_last(trainer: L.Trainer) -> bool:
    """Return whether the current validation is the one that ``metrics.json`` reports."""
    return bool(trainer.global_step >= trainer.max_steps or trainer.should_stop)


def all_scores(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the scores of ``metrics.json`` under their logged names, without single categories, image counts and missing values.

    ``segm/AP/crowd_low`` is logged as ``val/segm_AP_crowd_low``, and ``train/segm/AP`` of the second set as ``train_set/segm_AP``.
    """
    held_out, second = SCORED_SETS
    named = {}
    for key, value in metrics.items():
        scored, score = (second, key.removeprefix("train/")) if key.startswith("train/") else (held_out, key)
        of_category = score.startswith(_OF_CATEGORY) and "/crowd_" not in score
        if value is not None and not of_category and not score.startswith("num_"):
            named[f"{scored}/{score.replace('/', '_')}"] = value
    return named


_OF_CATEGORY = ("segm/AP/", "bbox/AP/")
_LOGGED_BY_MODULE = {f"{name}/{key.replace('/', '_')}" for name in SCORED_SETS for key in HEADLINES}


def pr_charts(curves: Curves) -> dict[str, Any]:
    """Return a precision-recall chart for masks and one for boxes, with a line per IoU threshold; none for what was not measured."""
    import wandb

    charts = {}
    for kind, key in CHARTS.items():
        lines = {f"IoU {name.removeprefix(f'{kind}/')} %": curve.tolist() for name, curve in curves.items() if name.startswith(kind)}
        if lines:
            recalls = np.linspace(0, 1, len(next(iter(lines.values())))).tolist()
            title = f"{KINDS[kind]}: precision over recall"
            charts[key] = wandb.plot.line_series(recalls, list(lines.values()), list(lines), title=title, xname="recall")
    return charts
