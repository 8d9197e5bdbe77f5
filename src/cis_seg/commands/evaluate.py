"""``python -m cis_seg.evaluate checkpoint=PATH data=...`` or ``predictions=RESULTS.json data=...``: score, write, print."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from tqdm import tqdm

from cis_seg.build import build_data
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import read_results, to_results
from cis_seg.config import schema
from cis_seg.config.command_schema import EvaluateConfig
from cis_seg.config.plain import EVALUATION, to_plain
from cis_seg.config.schema import CocoData
from cis_seg.config.validation import checked
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.evaluation.metrics import score
from cis_seg.evaluation.score_table import METRICS, OBJECTIVE, print_scores
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import load_trained, pick_device, predict_batch, warn_of_size
from cis_seg.model.condinst import CondInst

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"


def evaluate(cfg: DictConfig) -> float | None:
    """Scores a checkpoint or a results file on a data set; returns the mask AP.

    Raises:
        UserError: what the user can mend; the message says how.
    """
    typed: EvaluateConfig = checked(cfg)
    if (typed.checkpoint is None) == (typed.predictions is None):
        raise ConfigError(
            "evaluate scores one thing",
            expected="either checkpoint=PATH or predictions=RESULTS.json",
            found="both" if typed.checkpoint else "neither",
        )
    output = _output(typed)
    data = build_data(_scored(typed), home=Path(typed.paths.data))
    if typed.predictions is not None:
        truth = GroundTruth(data.val_annotations, categories=_categories(typed))
        results = read_results(typed.predictions, truth)
    else:
        path = Path(str(typed.checkpoint))
        trained = load_trained(path)
        warn_of_size(trained, path, typed.data.test_size)
        data.setup("validate")
        names = scored_classes(trained.class_names, data.class_names, named=_categories(typed) is not None, path=path)
        trained.model.head.keep_classes([trained.class_names.index(name) for name in names])
        truth = GroundTruth(data.val_annotations, categories=names)
        results = predict_results(trained.model, _postprocess(typed), data, truth.category_ids, pick_device(typed.device))
    metrics = score(truth, results, area=typed.eval.area, exclusive=typed.exclusive)
    output.mkdir(parents=True, exist_ok=True)
    (output / PREDICTIONS).write_text(json.dumps(results))
    (output / METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    OmegaConf.save(OmegaConf.create(to_plain(cfg)), output / EVALUATION)
    title = f"{typed.checkpoint or typed.predictions} on {truth.path}"
    print_scores(Console(), metrics, title=title, notes=[_outcome(truth, output)])
    return metrics.get(OBJECTIVE)


def _outcome(truth: GroundTruth, output: Path) -> str:
    """What there is now: figures, or, for a list of images such as COCO's test-dev, predictions alone."""
    if truth.annotations:
        return f"all figures: {output / METRICS}"
    return f"{truth.path.name} has no annotations, nothing was scored; pack {output / PREDICTIONS} with scripts/submit_testdev.py"


def scored_classes(known: Sequence[str], wanted: Sequence[str], *, named: bool, path: Path) -> tuple[str, ...]:
    """The model's classes that the data have too, in the model's order: detections of the others are not made.

    So weights of COCO's 80 classes are scored on people alone where the data know people alone, and a model of people on all of COCO.

    Args:
        known: the model's classes.
        wanted: the data's.
        named: the data's classes were chosen, not just all that their file has: each must be known.
        path: the checkpoint, for the message.

    Raises:
        CheckpointError: the model does not know what is to be scored.
    """
    scored = tuple(name for name in known if name in wanted)
    unknown = [name for name in wanted if name not in known]
    if (unknown and named) or not scored:
        raise CheckpointError(
            f"the model does not know the class {', '.join(unknown[:5])}",
            where=path,
            found=", ".join(known[:10]),
            remedy="score other categories: data.categories=[...]",
        )
    if unknown or len(scored) < len(known):
        log.info("scored: %s (the model knows %d classes, the data %d)", ", ".join(scored[:5]), len(known), len(wanted))
    return scored


def predict_results(
    model: CondInst, postprocess: Postprocess, data: InstanceDataModule, category_ids: tuple[int, ...], device: torch.device
) -> list[dict[str, Any]]:
    """COCO results of the scored images, image by image: masks are run-length codes before the next image is read."""
    model.to(device)
    results: list[dict[str, Any]] = []
    for batch in tqdm(data.val_dataloader()[0], desc="predicting", unit="batch", disable=None):
        for image_id, found in zip(batch.image_ids, predict_batch(model, postprocess, batch, device), strict=True):
            results += to_results(found, image_id, category_ids)
    return results


def _scored(cfg: EvaluateConfig) -> schema.DataConfig:
    """The data config whose held-out set is what the user wants scored, at the sizes the user wants."""
    data = cfg.data
    return replace(
        data,
        val_annotations=data.annotations or data.val_annotations,
        val_images=data.images or data.val_images,
        test_size=cfg.test_size or data.test_size,
        test_max_size=cfg.max_size or data.test_max_size,
        score_train=False,
    )


def _categories(cfg: EvaluateConfig) -> list[str] | None:
    """What a results file is scored on: the categories of the data config, people in crowds, else all of the file."""
    return cfg.data.categories if isinstance(cfg.data, CocoData) else ["person"]


def _postprocess(cfg: EvaluateConfig) -> Postprocess:
    threshold = cfg.eval.score_threshold if cfg.score_threshold is None else cfg.score_threshold
    return Postprocess(replace(cfg.eval, score_threshold=threshold))


def _output(cfg: EvaluateConfig) -> Path:
    """Where the results go: as told, or ``evaluate/<data>`` in the run the checkpoint belongs to."""
    if cfg.output is not None:
        return Path(cfg.output)
    if cfg.checkpoint is None:
        raise ConfigError("a results file belongs to no run", expected="output=DIR", found="no output")
    folder = Path(cfg.checkpoint).parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return run / "evaluate" / str(HydraConfig.get().runtime.choices["data"])
