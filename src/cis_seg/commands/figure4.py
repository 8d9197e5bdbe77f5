"""``python scripts/figure4.py checkpoint=A other=B data=... output=DIR``: two checkpoints beside the truth, as in the paper's Figure 4."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from cis_seg.build import build_data
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.commands.evaluate import scored_classes
from cis_seg.config.command_schema import FigureConfig
from cis_seg.config.schema import DataConfig
from cis_seg.config.validation import checked
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.records import InstanceDataset
from cis_seg.data.transforms import TestTransform, collate
from cis_seg.errors import DataError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import load_trained, pick_device, predict_batch, warn_of_size
from cis_seg.model.condinst import CondInst
from cis_seg.reports.figure4.contested import Compared, mean_shares, most_changed
from cis_seg.reports.figure4.page import draw_page, panels
from cis_seg.visualization.drawing import Drawing, predicted_drawings, true_drawings

log = logging.getLogger(__name__)

TRUTH = "ground truth"
Named = tuple[CondInst, tuple[str, ...]]  # a network and the names of its classes


def figure4(cfg: DictConfig) -> list[Path]:
    """Predicts with both checkpoints, takes the chosen or the most changed images, and draws them; returns the files.

    Raises:
        UserError: what the user can mend; the message says how.
    """
    typed: FigureConfig = checked(cfg)
    data = build_data(_held_out(typed.data), home=Path(typed.paths.data))
    dataset = data.val_dataset
    chosen = _places(dataset, typed.images)
    models = [_model(Path(path), dataset.class_names, typed.data.test_size) for path in (typed.checkpoint, typed.other)]
    compared = _compare(typed, data, models, chosen)
    shown = compared if typed.images else most_changed(compared, typed.count)
    known = [name for name in dataset.class_names if any(name in names for _, names in models)]
    truth = GroundTruth(data.val_annotations, categories=known)
    rows = {c.image_id: panels(dataset.sample(c.index).image, c, true_drawings(truth, c.image_id)) for c in shown}
    written = draw_page(rows, [*typed.titles, TRUTH], _caption(typed, compared), Path(typed.output))
    for path in written:
        log.info("wrote %s", path)
    return written


def _held_out(data: DataConfig) -> DataConfig:
    """The data config whose held-out set is what the user names, as in evaluate: ``annotations`` goes before ``val_annotations``."""
    annotations, images = data.annotations or data.val_annotations, data.images or data.val_images
    return replace(data, val_annotations=annotations, val_images=images)


def _places(dataset: InstanceDataset, image_ids: Sequence[int] | None) -> list[int]:
    """Where the wanted images stand in the data set; all of them where none is named."""
    if not image_ids:
        return list(range(len(dataset)))
    places = {image_id: place for place, image_id in enumerate(dataset.image_ids)}
    unknown = [image_id for image_id in image_ids if image_id not in places]
    if unknown:
        raise DataError(
            f"no image has the id {', '.join(map(str, unknown))}",
            where=dataset.source,
            expected=f"ids such as {', '.join(map(str, dataset.image_ids[:5]))}",
            found=unknown,
            remedy="correct images=[...], or leave it out for the most changed ones",
        )
    return [places[image_id] for image_id in image_ids]


@torch.inference_mode()
def _compare(cfg: FigureConfig, data: InstanceDataModule, models: Sequence[Named], places: Sequence[int]) -> list[Compared]:
    """What both checkpoints show on each image, one image at a time."""
    dataset, transform = data.val_dataset, TestTransform(size=cfg.data.test_size, max_size=cfg.data.test_max_size)
    device, postprocess = pick_device(cfg.device), Postprocess()
    compared = []
    for place in tqdm(places, desc="predicting", unit="image", disable=None):
        sample = dataset.sample(place)
        batch = collate([transform(sample, place)])
        shown: list[list[Drawing]] = []
        for model, names in models:
            found = predict_batch(model.to(device), postprocess, batch, device)[0]
            shown.append(predicted_drawings(found, names, cfg.draw_threshold))
        compared.append(Compared(place, sample.image_id, (shown[0], shown[1])))
    return compared


def _model(path: Path, wanted: Sequence[str], size: int) -> Named:
    """A checkpoint's network, which finds only what the data have too, and its class names."""
    trained = load_trained(path)
    warn_of_size(trained, path, size)
    names = scored_classes(trained.class_names, wanted, named=False, path=path)
    trained.model.head.keep_classes([trained.class_names.index(name) for name in names])
    return trained.model, names


def _caption(cfg: FigureConfig, compared: Sequence[Compared]) -> str:
    """How the rows were chosen, and the figures over all images, so that chosen ones mislead nobody."""
    first, second = (100 * share for share in mean_shares(compared))
    how = "chosen images" if cfg.images else f"the {min(cfg.count, len(compared))} most changed of {len(compared)} images"
    means = f"claimed twice, mean over {'these' if cfg.images else 'all'}: {cfg.titles[0]} {first:.1f} %, {cfg.titles[1]} {second:.1f} %"
    return f"{how}; scores from {cfg.draw_threshold:g}; {means}"


def draw(cfg: DictConfig) -> None:
    """A task of Hydra's returns nothing or the figure that a sweep optimises."""
    figure4(cfg)
