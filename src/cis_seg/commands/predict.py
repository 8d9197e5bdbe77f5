"""``python -m cis_seg.predict checkpoint=PATH input=FILE_OR_DIR_OR_GLOB output=DIR``: find, write, draw."""

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

#: the rest was predicted and written
EXIT_SOME_UNREADABLE = 1


def predict(cfg: DictConfig) -> dict[Source, DataError]:
    """Finds people (or what the checkpoint knows) in images and videos; returns the files that could not be read, and why.

    Raises:
        UserError: what the user can mend before anything is predicted; the message says how.
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
    log.info("%d found in %d of %d files, written to %s and beside it", files.num_instances, done, len(sources), output / PREDICTIONS)
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
    """Mistakes that would cost a user files."""
    if output.exists() and not output.is_dir():
        raise ConfigError("the output is a file", where=f"output={output}", expected="a folder, or the name of a new one", found="a file")
    inputs = {source.path.resolve() for source in sources}
    written = {(output / f"{name}{suffix}").resolve() for name in output_names(sources).values() for suffix in OVERLAY_SUFFIXES}
    if output.resolve() in {path.parent for path in inputs} or written & inputs:
        raise ConfigError(
            "the overlays would be written among the inputs, over images of the same name",
            where=f"output={output}",
            expected="another folder than that of the inputs",
            remedy="for example output=predictions",
        )


def _labels(trained: Trained, cfg: PredictConfig) -> Sequence[int]:
    """The labels to look for, in the model's order; the head forgets the others."""
    known = trained.class_names
    if cfg.categories is None:
        return range(len(known))
    unknown = [name for name in cfg.categories if name not in known]
    if unknown or not cfg.categories:
        raise CheckpointError(
            f"the model does not know the class {', '.join(unknown)}" if unknown else "no class is left to look for",
            where=cfg.checkpoint,
            expected=f"categories among {', '.join(known[:100])}",
            found=cfg.categories,
        )
    labels = [label for label, name in enumerate(known) if name in cfg.categories]
    trained.model.head.keep_classes(labels)
    return labels


def _report(unreadable: dict[Source, DataError]) -> None:
    print(f"{len(unreadable)} files could not be read and were left out:", file=sys.stderr)
    for source, error in unreadable.items():
        print(f"  {source.path}: {error.found}", file=sys.stderr)


def predict_and_exit(cfg: DictConfig) -> None:
    unreadable = predict(cfg)
    if unreadable:
        _report(unreadable)
        raise SystemExit(EXIT_SOME_UNREADABLE)
