"""``python scripts/figure4.py``: the predictions of two checkpoints beside the ground truth, as in the paper's Figure 4."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from cis_seg.build import build_data
from cis_seg.commands.evaluate import held_out, load_scored
from cis_seg.config.command_schema import FigureConfig
from cis_seg.config.validation import checked
from cis_seg.data.batches import collate
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.data.records import InstanceDataset
from cis_seg.data.transforms import TestTransform
from cis_seg.errors import DataError
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import pick_device, predict_batch
from cis_seg.model.condinst import CondInst
from cis_seg.reports.figure4 import Compared, draw_page, mean_shares, most_changed, panels
from cis_seg.visualization.drawing import Drawing, predicted_drawings, true_drawings

log = logging.getLogger(__name__)

TRUTH = "ground truth"
Named = tuple[CondInst, tuple[str, ...]]  # a network and the names of its classes


def figure4(cfg: DictConfig) -> list[Path]:
    """Predict with both checkpoints, draw the chosen or the most changed images, and return the files written.

    Raises:
        UserError: a mistake of the user, with what to do about it.
    """
    typed: FigureConfig = checked(cfg)
    data = build_data(held_out(typed.data), home=Path(typed.paths.data))
    dataset = data.val_dataset
    chosen = _indices(dataset, typed.images)
    trained = [load_scored(Path(path), data, named=False) for path in (typed.checkpoint, typed.other)]
    models = [(one.model, one.class_names) for one in trained]
    compared = _compare(typed, data, models, chosen)
    shown = compared if typed.images else most_changed(compared, typed.count)
    known = [name for name in dataset.class_names if any(name in names for _, names in models)]
    truth = data.ground_truth(data.val_annotations, known)
    rows = {c.image_id: panels(dataset.sample(c.index).image, c, true_drawings(truth, c.image_id)) for c in shown}
    written = draw_page(rows, [*typed.titles, TRUTH], _caption(typed, compared), Path(typed.output))
    for path in written:
        log.info("wrote %s", path)
    return written


def _indices(dataset: InstanceDataset, image_ids: Sequence[int] | None) -> list[int]:
    """Return the indices of the given images in the data set; without ids those of all images."""
    if not image_ids:
        return list(range(len(dataset)))
    indices = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
    unknown = [image_id for image_id in image_ids if image_id not in indices]
    if unknown:
        raise DataError(
            f"no image has the id {', '.join(map(str, unknown))}",
            where=dataset.source,
            expected=f"ids such as {', '.join(map(str, dataset.image_ids[:5]))}",
            found=unknown,
            remedy="correct images=[...], or leave it out for the most changed ones",
        )
    return [indices[image_id] for image_id in image_ids]


@torch.inference_mode()
def _compare(cfg: FigureConfig, data: InstanceDataModule, models: Sequence[Named], indices: Sequence[int]) -> list[Compared]:
    """Predict each image with both networks, one image at a time."""
    dataset, transform = data.val_dataset, TestTransform(size=cfg.data.test_size, max_size=cfg.data.test_max_size)
    device, postprocess = pick_device(cfg.device), Postprocess()
    compared = []
    for index in tqdm(indices, desc="predicting", unit="image", disable=None):
        sample = dataset.sample(index)
        batch = collate([transform(sample, index)])
        shown: list[list[Drawing]] = []
        for model, names in models:
            found = predict_batch(model.to(device), postprocess, batch, device)[0]
            shown.append(predicted_drawings(found, names, cfg.draw_threshold))
        compared.append(Compared(index, sample.image_id, (shown[0], shown[1])))
    return compared


def _caption(cfg: FigureConfig, compared: Sequence[Compared]) -> str:
    """State how the rows were chosen, and the mean over all images, because the most changed ones are not typical."""
    first, second = (100 * share for share in mean_shares(compared))
    how = "chosen images" if cfg.images else f"the {min(cfg.count, len(compared))} most changed of {len(compared)} images"
    means = f"claimed twice, mean over {'these' if cfg.images else 'all'}: {cfg.titles[0]} {first:.1f} %, {cfg.titles[1]} {second:.1f} %"
    return f"{how}; scores from {cfg.draw_threshold:g}; {means}"
