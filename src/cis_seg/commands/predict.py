"""``python -m cis_seg.predict``: find instances in images and videos, write them and draw them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import read_coco
from cis_seg.config.command_schema import PredictConfig
from cis_seg.config.validation import checked
from cis_seg.data.batches import collate
from cis_seg.errors import CheckpointError, ConfigError, DataError
from cis_seg.evaluation.exclusive import exclusive_instances
from cis_seg.inference.inputs import Source, find_sources, listed_sources
from cis_seg.inference.photos import Photo, batched, read_photos
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import Trained, load_trained, pick_device, predict_batch, predict_tiles, test_transform
from cis_seg.inference.tiles import warn_without_tiles
from cis_seg.inference.video import frame_count
from cis_seg.inference.writer import OVERLAY_SUFFIXES, PREDICTIONS, PredictionFiles, output_names
from cis_seg.structures import Instances

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
    listed = None if typed.annotations is None else read_coco(Path(typed.annotations).expanduser(), Needs(boxes=False))
    if listed is not None:
        sources = listed_sources(sources, listed)
    _check(sources, output)
    trained = load_trained(Path(typed.checkpoint))
    own_ids = zip(trained.class_names, trained.category_ids, strict=True)
    category_ids = dict(own_ids) if listed is None else {name: number for number, name in listed.categories.items()}
    labels = _labels(trained, typed, category_ids)
    files = PredictionFiles(
        output,
        sources,
        class_names=[trained.class_names[label] for label in labels],
        category_ids=[category_ids[trained.class_names[label]] for label in labels],
        draw_threshold=typed.draw_threshold,
        masks=typed.masks,
    )
    warn_without_tiles(typed)
    unreadable: dict[Source, DataError] = {}
    _run(typed, trained, sources, files, unreadable)
    done = len(sources) - len(unreadable)
    log.info("%d instances in %d of %d files, written to %s and beside it", files.num_instances, done, len(sources), output / PREDICTIONS)
    return unreadable


def _run(
    cfg: PredictConfig, trained: Trained, sources: Sequence[Source], files: PredictionFiles, unreadable: dict[Source, DataError]
) -> None:
    device, postprocess = pick_device(cfg.device), Postprocess(cfg, masks=cfg)
    model = trained.model.to(device)
    transform = test_transform(trained, cfg.test_size, cfg.max_size)
    exif = cfg.exif or ("apply" if cfg.annotations is None else "ignore")  # the annotations of a data set are on stored pixels
    photos = read_photos(sources, transform, view_side=cfg.overlay_size, unreadable=unreadable, exif=exif, tiling=cfg)
    expected = sum(frame_count(source.path) if source.is_video else 1 for source in sources)

    def look(group: Sequence[Photo]) -> list[Instances]:
        first = group[0]
        if first.image is None:
            return predict_batch(model, postprocess, collate([photo.example for photo in group]), device)
        log.info("%s: %d tiles and the whole image", first.source.file_name, len(first.tiles))
        return [predict_tiles(model, postprocess, first.image, first.tiles, transform, device, batch_size=cfg.batch_size)]

    with files, tqdm(total=expected, desc="predicting", unit="image", disable=None) as bar:
        for group in batched(photos, cfg.batch_size):
            for photo, found in zip(group, look(group), strict=True):
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


def _labels(trained: Trained, cfg: PredictConfig, category_ids: Mapping[str, int]) -> Sequence[int]:
    """Return the labels to look for, in the model's order; the head drops the others.

    Args:
        trained: the checkpoint.
        cfg: may name the classes to look for.
        category_ids: category id of each class that results can have.
    """
    known = [name for name in trained.class_names if name in category_ids]
    wanted = cfg.categories or known or list(category_ids)
    if unknown := [name for name in wanted if name not in known]:
        raise CheckpointError(
            f"the model does not know the class {', '.join(unknown[:100])}",
            where=cfg.checkpoint,
            expected=f"categories among {', '.join((known or trained.class_names)[:100])}",
            found=wanted[:100],
        )
    labels = [label for label, name in enumerate(trained.class_names) if name in wanted]
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
