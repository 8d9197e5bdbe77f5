"""The scores of one validation, and how callbacks receive them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import lightning as L

from cis_seg.evaluation.metrics import Curves


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
