"""``python -m cis_seg.evaluate``: score a checkpoint or a results file on a data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from tqdm import tqdm

from cis_seg.build import build_data
from cis_seg.coco.boxes import corners
from cis_seg.coco.classes import spelling_remedy
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.results import read_results, to_results
from cis_seg.config.command_schema import EvaluateConfig
from cis_seg.config.plain import EVALUATION, to_plain
from cis_seg.config.schema import CocoData, CrowdHumanData, DataConfig, InferenceConfig
from cis_seg.config.validation import checked
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.odgt_results import is_odgt, read_odgt_results
from cis_seg.data.records import InstanceDataset
from cis_seg.data.transforms import TestTransform
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.evaluation.given_boxes import given_box_metrics
from cis_seg.evaluation.metrics import score
from cis_seg.evaluation.scores import METRICS, OBJECTIVE, print_scores, write_metrics
from cis_seg.inference.box_masks import BoxMasker
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import Trained, load_trained, pick_device, predict_batch, warn_of_size
from cis_seg.model.condinst import CondInst
from cis_seg.structures import RLE

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.json"


def evaluate(cfg: DictConfig) -> float | None:
    """Score a checkpoint or a results file, write metrics and predictions, and return the mask AP.

    Raises:
        UserError: a mistake of the user, with what to do about it.
    """
    typed: EvaluateConfig = checked(cfg)
    if (typed.checkpoint is None) == (typed.predictions is None):
        raise ConfigError(
            "evaluate scores either a checkpoint or a results file",
            expected="checkpoint=PATH or predictions=RESULTS.json",
            found="both" if typed.checkpoint else "neither",
        )
    output, sizes = _output(typed), (typed.test_size or typed.data.test_size, typed.max_size or typed.data.test_max_size)
    scored = replace(held_out(typed.data), test_size=sizes[0], test_max_size=sizes[1])
    data = build_data(scored, home=Path(typed.paths.data))
    if typed.predictions is not None:
        truth = data.ground_truth(data.val_annotations, _categories(typed))
        results = _read_results(Path(typed.predictions), truth, typed.data)
        _warn_of_inference(typed.eval)
    else:
        trained = load_scored(Path(str(typed.checkpoint)), data, named=_categories(typed) is not None)
        truth = data.ground_truth(data.val_annotations, trained.class_names)
        check_kind(trained, truth, Path(str(typed.checkpoint)))
        results = predict_results(trained.model, _postprocess(typed), data, truth.category_ids, pick_device(typed.device))
    metrics = score(truth, results, area=typed.eval.area, exclusive=typed.exclusive).metrics
    if typed.given_boxes and typed.checkpoint is not None:
        masker = BoxMasker(trained, TestTransform(size=sizes[0], max_size=sizes[1]), pick_device(typed.device), typed.eval, typed.scales)
        metrics |= given_box_metrics(truth, masks_of_annotations(masker, data.val_dataset, truth))
    _warn_of_given_boxes(typed)
    output.mkdir(parents=True, exist_ok=True)
    (output / PREDICTIONS).write_text(json.dumps(results), encoding="utf-8")
    write_metrics(output, metrics)
    OmegaConf.save(OmegaConf.create(to_plain(cfg)), output / EVALUATION)
    title = f"{typed.checkpoint or typed.predictions} on {truth.path}"
    print_scores(Console(), metrics, title=title, notes=[_outcome(truth, output)])
    return metrics.get(OBJECTIVE)


def _warn_of_inference(options: InferenceConfig) -> None:
    """Warn of options that change predictions, for a results file."""
    if given := [option.name for option in fields(InferenceConfig) if getattr(options, option.name)]:
        log.warning("eval.%s: no effect on a results file, whose masks and scores stay; score a checkpoint", ", eval.".join(given))


def _warn_of_given_boxes(cfg: EvaluateConfig) -> None:
    """Warn of options for the masks of ground-truth boxes if there are none."""
    if cfg.given_boxes and cfg.checkpoint is None:
        log.warning("given_boxes=true has no effect: a results file has no masks for the ground-truth boxes; score a checkpoint")
    elif cfg.scales != [1.0] and not cfg.given_boxes:
        log.warning("scales=%s has no effect without given_boxes=true: detections are those of the image at scale 1", cfg.scales)


def _read_results(path: Path, truth: GroundTruth, data: DataConfig) -> list[dict[str, Any]]:
    """Read a results file in COCO's format or with odgt lines."""
    if not is_odgt(path):
        return read_results(path, truth)
    if not isinstance(data, CrowdHumanData):
        remedy = "score them with data=crowdhuman, whose data.boxes says which boxes they are, or write them as COCO results"
        raise ConfigError("odgt lines need data=crowdhuman", where=path, expected="COCO results, a json list", remedy=remedy)
    return read_odgt_results(path, truth, data.boxes)


def check_kind(trained: Trained, truth: GroundTruth, path: Path) -> None:
    """Refuse to score a network of one kind of CrowdHuman's boxes on another.

    Raises:
        CheckpointError: the checkpoint's own run trained on other boxes than ``truth.crowd`` has.
    """
    own = (trained.config.get("data") or {}).get("boxes")
    if truth.crowd is not None and own not in (None, truth.crowd.kind):
        raise CheckpointError(
            f"the network predicts {own} boxes, and the ground truth has {truth.crowd.kind} ones",
            where=path,
            expected=f"a network that was trained with data.boxes={truth.crowd.kind}",
            found=f"data.boxes={own} in its run",
            remedy=f"score it with data.boxes={own}",
        )


def _outcome(truth: GroundTruth, output: Path) -> str:
    """A line on what was written: metrics, or only predictions if the images (such as COCO's test-dev) have no annotations."""
    if truth.annotations:
        return f"all metrics: {output / METRICS}"
    return f"{truth.path.name} has no annotations, nothing was scored; pack {output / PREDICTIONS} with cis-seg submit"


def load_scored(path: Path, data: InstanceDataModule, *, named: bool) -> Trained:
    """Load a checkpoint's network, limited to the classes that ``data`` has too.

    Args:
        path: the checkpoint; a warning says if its own run saw images of a very different size.
        data: its held-out set is scored.
        named: see ``scored_classes``.

    Returns:
        The checkpoint with its remaining classes.
    """
    trained = load_trained(path)
    warn_of_size(trained, path, data.cfg.test_size)
    data.setup("validate")
    names = scored_classes(trained.class_names, data.class_names, named=named, path=path)
    labels = [trained.class_names.index(name) for name in names]
    trained.model.head.keep_classes(labels)
    return replace(trained, class_names=names, category_ids=tuple(trained.category_ids[label] for label in labels))


def scored_classes(known: Sequence[str], wanted: Sequence[str], *, named: bool, path: Path) -> tuple[str, ...]:
    """Return the classes that model and data share, in the model's order; only these are detected.

    Weights of COCO's 80 classes are scored on people alone if the data contain only people, and a model of people on all of COCO.

    Args:
        known: classes of the model.
        wanted: classes of the data.
        named: the user chose the data's classes, so the model must know each of them.
        path: the checkpoint, for the message.

    Raises:
        CheckpointError: no shared class, or an unknown one that the user chose.
    """
    scored = tuple(name for name in known if name in wanted)
    unknown = [name for name in wanted if name not in known]
    if (unknown and named) or not scored:
        raise CheckpointError(
            f"the model does not know the class {', '.join(unknown[:5])}",
            where=path,
            found=", ".join(known[:10]),
            remedy=spelling_remedy(unknown, known) or "score other categories: data.categories=[...]",
        )
    if unknown or len(scored) < len(known):
        log.info("scored: %s (the model knows %d classes, the data %d)", ", ".join(scored[:5]), len(known), len(wanted))
    return scored


def predict_results(
    model: CondInst, postprocess: Postprocess, data: InstanceDataModule, category_ids: tuple[int, ...], device: torch.device
) -> list[dict[str, Any]]:
    """Return the COCO results of the scored images; masks are encoded image by image, so memory does not grow with their number."""
    model.to(device)
    results: list[dict[str, Any]] = []
    for batch in tqdm(data.val_dataloader()[0], desc="predicting", unit="batch", disable=None):
        for image_id, found in zip(batch.image_ids, predict_batch(model, postprocess, batch, device), strict=True):
            results += to_results(found, image_id, category_ids)
    return results


def masks_of_annotations(masker: BoxMasker, images: InstanceDataset, truth: GroundTruth) -> dict[int, RLE]:
    """Return the mask that the network predicts for the box of each annotation with a mask of its own, by annotation id."""
    masks: dict[int, RLE] = {}
    for index, image_id in enumerate(tqdm(images.image_ids, desc="masks for boxes", unit="image", disable=None)):
        annotations = [a for a in truth.image_annotations(image_id) if not a["iscrowd"] and a["id"] not in truth.maskless]
        if annotations:
            labels = [truth.category_ids.index(annotation["category_id"]) for annotation in annotations]
            found = masker(images.sample(index).image, [corners(annotation["bbox"]) for annotation in annotations], labels)
            masks |= {annotation["id"]: mask.mask for annotation, mask in zip(annotations, found, strict=True)}
    return masks


def held_out(data: DataConfig) -> DataConfig:
    """Return the data config with ``annotations`` and ``images``, if the user names them, as its held-out set."""
    return replace(
        data, val_annotations=data.annotations or data.val_annotations, val_images=data.images or data.val_images, score_train=False
    )


def _categories(cfg: EvaluateConfig) -> list[str] | None:
    """The categories to score: ``data.categories`` (None: all of the file), or person in CrowdHuman's layout."""
    return cfg.data.categories if isinstance(cfg.data, CocoData) else ["person"]


def _postprocess(cfg: EvaluateConfig) -> Postprocess:
    threshold = cfg.eval.score_threshold if cfg.score_threshold is None else cfg.score_threshold
    return Postprocess(replace(cfg.eval, score_threshold=threshold), masks=cfg.eval)


def _output(cfg: EvaluateConfig) -> Path:
    """The output folder: ``output``, or ``evaluate/<data>`` in the checkpoint's run."""
    if cfg.output is not None:
        return Path(cfg.output)
    if cfg.checkpoint is None:
        raise ConfigError("a results file needs an output folder", expected="output=DIR", found="no output")
    folder = Path(cfg.checkpoint).parent
    run = folder.parent if folder.name == "checkpoints" else folder
    return run / "evaluate" / str(HydraConfig.get().runtime.choices["data"])
