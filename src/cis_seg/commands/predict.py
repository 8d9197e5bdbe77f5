"""``python -m cis_seg.predict``: find instances in images and videos, write them and draw them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from cis_seg.config.command_schema import PredictConfig
from cis_seg.config.validation import checked
from cis_seg.data.transforms import collate
from cis_seg.errors import CheckpointError, ConfigError, DataError
from cis_seg.evaluation.exclusive import exclusive_instances
from cis_seg.inference.inputs import Source, find_sources
from cis_seg.inference.photos import batched, read_photos
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import Trained, load_trained, pick_device, predict_batch, test_transform
from cis_seg.inference.video import frame_count
from cis_seg.inference.writer import OVERLAY_SUFFIXES, PREDICTIONS, PredictionFiles, output_names

log = logging.getLogger(__name__)

#: some files could not be read; the others are predicted and written
EXIT_SOME_UNREADABLE = 1


def predict(cfg: DictConfig) -> dict[Source, DataError]:
    """Find instances in images and videos; return the files that could not be read, with the reasons.

    Raises:
        UserError: a mistake of the user, before anything is predicted.
    """
    typed: PredictConfig = checked(cfg)
    output = Path(typed.output)
    sources = find_sources(typed.input, leave_out=output)
    _check(sources, output)
    trained = load_trained(Path(typed.checkpoint))
    labels = _labels(trained, typed)
    files = PredictionFiles(
        output,
        sources,
        class_names=[trained.class_names[label] for label in labels],
        category_ids=[trained.category_ids[label] for label in labels],
        draw_threshold=typed.draw_threshold,
        masks=typed.masks,
    )
    unreadable: dict[Source, DataError] = {}
    _run(typed, trained, sources, files, unreadable)
    done = len(sources) - len(unreadable)
    log.info("%d instances in %d of %d files, written to %s and beside it", files.num_instances, done, len(sources), output / PREDICTIONS)
    return unreadable


def _run(
    cfg: PredictConfig, trained: Trained, sources: Sequence[Source], files: PredictionFiles, unreadable: dict[Source, DataError]
) -> None:
    device, postprocess = pick_device(cfg.device), Postprocess(cfg)
    model = trained.model.to(device)
    photos = read_photos(sources, test_transform(trained, cfg.test_size, cfg.max_size), view_side=cfg.overlay_size, unreadable=unreadable)
    expected = sum(frame_count(source.path) if source.is_video else 1 for source in sources)
    with files, tqdm(total=expected, desc="predicting", unit="image", disable=None) as bar:
        for group in batched(photos, cfg.batch_size):
            batch = collate([photo.example for photo in group])
            for photo, found in zip(group, predict_batch(model, postprocess, batch, device), strict=True):
                files.write(photo, exclusive_instances(found) if cfg.exclusive else found)
                bar.update()


def _check(sources: Sequence[Source], output: Path) -> None:
    """Refuse an output that would overwrite files.

    Raises:
        ConfigError: the output is a file, or among the inputs.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError("the output is a file", where=f"output={output}", expected="a folder, or the name of a new one", found="a file")
    inputs = {source.path.resolve() for source in sources}
    written = {(output / f"{name}{suffix}").resolve() for name in output_names(sources).values() for suffix in OVERLAY_SUFFIXES}
    if output.resolve() in {path.parent for path in inputs} or written & inputs:
        raise ConfigError(
            "the overlays would be written among the inputs and could overwrite images of the same name",
            where=f"output={output}",
            expected="a folder other than that of the inputs",
            remedy="for example output=predictions",
        )


def _labels(trained: Trained, cfg: PredictConfig) -> Sequence[int]:
    """Return the labels to look for, in the model's order; the head drops the others."""
    known = trained.class_names
    if cfg.categories is None:
        return range(len(known))
    if unknown := [name for name in cfg.categories if name not in known]:
        raise CheckpointError(
            f"the model does not know the class {', '.join(unknown)}",
            where=cfg.checkpoint,
            expected=f"categories among {', '.join(known[:100])}",
            found=cfg.categories,
        )
    labels = [label for label, name in enumerate(known) if name in cfg.categories]
    trained.model.head.keep_classes(labels)
    return labels


def _report(unreadable: dict[Source, DataError]) -> None:
    print(f"{len(unreadable)} files could not be read and were skipped:", file=sys.stderr)
    for source, error in unreadable.items():
        print(f"  {source.path}: {error.found}", file=sys.stderr)


def predict_and_exit(cfg: DictConfig) -> None:
    """Hydra's task: exit with 1 if files could not be read."""
    unreadable = predict(cfg)
    if unreadable:
        _report(unreadable)
        raise SystemExit(EXIT_SOME_UNREADABLE)
