"""The metrics of a run: the scores of one validation, how callbacks receive them, and the names under which everything is logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import lightning as L

from cis_seg.coco.ground_truth import BOX_KINDS
from cis_seg.evaluation.baselines import CROWD_BINS
from cis_seg.evaluation.metrics import Curves

#: the x axis of every curve; the n-th step has the number n - 1, as in Lightning
STEP = "trainer/global_step"
LEARNING_RATE = "train/lr"
#: norm of all gradients before clipping; number of steps skipped so far because of a non-finite loss or gradient
GRADIENT_NORM, SKIPPED_STEPS = "train/grad_norm", "train/skipped_steps"
SPEED = "speed/images_per_s"
PEAK_RSS, PEAK_CUDA = "memory/peak_rss_gb", "memory/peak_cuda_gb"
#: prefixes of a loss term as the criterion computes it, and multiplied by its weight
RAW, WEIGHTED = "train/loss_", "train_weighted/loss_"
#: precision-recall curves, one chart per kind of score; W&B stores the points of a chart as the table ``<chart>_table``
CHARTS = {"segm": "pr/segm", "bbox": "pr/bbox"}
#: table of the last validation, one row per image
RESULTS = "results"
BOX_TERMS = ("cls", "box", "ctr", "proj", "pairwise")
SIZES = ("", "50", "75", "s", "m", "l")
#: additional metrics with OverlapLoss
PROMISED_WITH_OVERLAP = (
    f"{RAW}overlap",
    f"{WEIGHTED}overlap",
    "train/overlap_degree",
    "train/overlap_pairs",
    "train/overlap_shared",
)
#: additional metrics with a teacher
PROMISED_WITH_TEACHER = (f"{RAW}teacher", f"{WEIGHTED}teacher", "train/teacher_quality", "train/teacher_ignored")


@dataclass(frozen=True)
class EvaluationResult:
    """The scores of all scored sets after a training step.

    Attributes:
        step: optimiser steps before the validation.
        metrics: scores under the keys of ``metrics.json``; those of the training set start with ``train/``.
        curves: precision over recall, by name of the scored set (``val``, ``train_set``).
    """

    step: int
    metrics: Mapping[str, float | None]
    curves: Mapping[str, Curves]


@runtime_checkable
class EvaluationListener(Protocol):
    """A callback that receives the result of every validation, in every process, before ``on_validation_end``."""

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Receive the scores; not called for Lightning's sanity check."""


class LatestEvaluation(L.Callback):
    """Keeps the result of the latest validation, None before the first one."""

    def __init__(self) -> None:
        self.result: EvaluationResult | None = None

    def on_evaluation(self, result: EvaluationResult) -> None:
        self.result = result


#: scores of the last step, as in metrics.json: the columns of a table of runs
FINAL = (*(f"final/segm_AP{size}" for size in SIZES), "final/overlap_mean_degree", "final/shape_mask_to_box")

#: scores whose summary is the maximum over the validations of a run
BEST_IS_MOST = (
    "val/score",
    *(f"val/{kind}_{figure}" for kind in ("segm", "bbox") for figure in (*(f"AP{size}" for size in SIZES), "AR100")),
    *(f"val/segm_AP_crowd_{level}" for level in CROWD_BINS),
)

#: W&B's summary of the scores of a set that is CrowdHuman's; the miss rate is best at its minimum
CROWDHUMAN_BEST = {
    f"val/crowdhuman_{name}_{kind}": best for name, best in (("AP", "max"), ("MR", "min"), ("JI", "max")) for kind in BOX_KINDS
}

#: metrics that every box-supervised run on a CPU logs if the ground truth has masks, except scores that it cannot measure (such as no
#: large instances)
PROMISED = (
    STEP,
    "train/loss",
    *(f"{RAW}{term}" for term in BOX_TERMS),
    *(f"{WEIGHTED}{term}" for term in BOX_TERMS),
    LEARNING_RATE,
    GRADIENT_NORM,
    SKIPPED_STEPS,
    SPEED,
    PEAK_RSS,
    *BEST_IS_MOST,
    "val/overlap_mean_degree",
    "val/shape_mask_to_box",
    "val/floor_box_AP50",
    "val/floor_ellipse_AP50",
    "val/floor_mask_to_box",
    *(f"{chart}_table" for chart in CHARTS.values()),
    RESULTS,
)


def summaries(terms: Iterable[str]) -> dict[str, str]:
    """Return W&B's summary (``max``, ``min``, ``mean``) of every metric whose last value is not the one of interest.

    Names are complete instead of patterns: if two patterns match a name, W&B uses either, and Lightning has defined ``*`` already.

    Args:
        terms: names of the trained loss terms, as in ``loss.weights``.
    """
    least = ("train/loss", *(f"{prefix}{term}" for prefix in (RAW, WEIGHTED) for term in terms))
    best = dict.fromkeys(BEST_IS_MOST, "max") | CROWDHUMAN_BEST
    return best | dict.fromkeys(least, "min") | {SPEED: "mean", PEAK_RSS: "max", PEAK_CUDA: "max"}
