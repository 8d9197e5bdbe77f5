"""What a bad step leaves in the run's folder: a page of figures, and the step itself to compute again."""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from cis_seg.callbacks.watched_step import Figures, WatchedStep
from cis_seg.step_file import SavedStep, save_step
from cis_seg.writing import write_atomically

log = logging.getLogger(__name__)

FOLDER = "bad_steps"  # in the run's
#: steps whose batch and weights a run keeps; because those in a row have the same weights, and an R50's take 150 MB each time
KEPT = 3


def write_report(step: WatchedStep, figures: Figures, skipped: int, trainer: L.Trainer, module: L.LightningModule) -> Path:
    """Writes ``bad_steps/step<number>.json`` and, for the first ``KEPT`` of a run, ``.pt`` (see ``step_file``); returns the former.

    Several processes write one each, ``step<number>_rank<rank>``. A disk that refuses them does not end the run.

    Args:
        step: the step, of this process.
        figures: of it.
        skipped: bad steps so far.
        trainer, module: as they were when the step began.
    """
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    folder, card = Path(trainer.default_root_dir) / FOLDER, module.card
    path = folder / f"step{step.number:06d}{rank}.json"
    report = {
        "step": step.number,
        "seed": card["config"]["seed"],  # type: ignore[index]
        "precision": trainer.precision,
        "learning_rate": step.lr,
        "skipped_steps": skipped,
        **asdict(figures),
        "images": list(_images(step, trainer)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob(f"step{'[0-9]' * 6}{rank}.pt"))) < KEPT:
            saved = SavedStep(step.number, trainer.precision, tuple(step.batches))
            save_step(path.with_suffix(".pt"), saved, module.state_dict(), card)  # type: ignore[arg-type]
            report["reproduce"] = f"python -m cis_seg.replay {shlex.quote(str(path.with_suffix('.pt')))}"
        write_atomically(path, (json.dumps(_written(report), indent=2) + "\n").encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
    return path


def _images(step: WatchedStep, trainer: L.Trainer) -> Iterator[dict[str, Any]]:
    """Id, place in the stream and file of every image of the step."""
    dataset: Any = trainer.datamodule.train_dataset  # type: ignore[attr-defined]
    for part, batch in enumerate(step.batches):
        for image_id, position in zip(batch.image_ids, batch.positions, strict=True):
            index = int(np.flatnonzero(dataset.records.image_ids == image_id)[0])
            yield {"micro_batch": part, "id": image_id, "position": position, "file": str(dataset.path(index))}


def _written(value: Any) -> Any:
    """For JSON, which has no NaN: as text."""
    if isinstance(value, list):
        return [_written(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _written(entry) for name, entry in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
