"""What only W&B can show of a validation: every score, precision over recall, and what a run's summary keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger

from cis_seg.evaluation.metrics import Curves
from cis_seg.training.callbacks.metric_names import CHARTS, FINAL, STEP, summaries
from cis_seg.training.evaluation_result import EvaluationResult
from cis_seg.training.module import HEADLINES, SCORED_SETS

KINDS = {"segm": "masks", "bbox": "boxes"}


class Dashboard(L.Callback):
    """Gives W&B's run its axes, summaries, charts and final scores; does nothing for other loggers.

    Shows the module's ``EvaluationResult``: nothing is scored twice. Scores of single categories stay in ``metrics.json``; those of
    COCO's eighty would be most of the page.
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
    """W&B's own runs, on the process that logs; empty with other loggers."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)] if trainer.is_global_zero else []


def is_last(trainer: L.Trainer) -> bool:
    """Whether a validation that runs now is the one that ``metrics.json`` reports."""
    return bool(trainer.global_step >= trainer.max_steps or trainer.should_stop)


def all_scores(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """``metrics.json``'s figures under their logged names: ``segm/AP/crowd_low`` is ``val/segm_AP_crowd_low``, the second set's
    ``train/segm/AP`` is ``train_set/segm_AP``. Without single categories, numbers of images, and what could not be measured.
    """
    held_out, second = SCORED_SETS
    named = {}
    for key, value in metrics.items():
        scored, figure = (second, key.removeprefix("train/")) if key.startswith("train/") else (held_out, key)
        of_category = figure.count("/") == 2 and "/crowd_" not in figure
        if value is not None and not of_category and not figure.startswith("num_"):
            named[f"{scored}/{figure.replace('/', '_')}"] = value
    return named


_LOGGED_BY_MODULE = {f"{name}/{key.replace('/', '_')}" for name in SCORED_SETS for key in HEADLINES}


def pr_charts(curves: Curves) -> dict[str, Any]:
    """A chart of precision over recall for masks and one for boxes, a line an IoU threshold; none where nothing was measured."""
    import wandb

    charts = {}
    for kind, key in CHARTS.items():
        lines = {f"IoU {name.removeprefix(f'{kind}/')} %": curve.tolist() for name, curve in curves.items() if name.startswith(kind)}
        if lines:
            recalls = np.linspace(0, 1, len(next(iter(lines.values())))).tolist()
            title = f"{KINDS[kind]}: precision over recall"
            charts[key] = wandb.plot.line_series(recalls, list(lines.values()), list(lines), title=title, xname="recall")
    return charts
