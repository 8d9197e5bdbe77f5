"""Checks of the initial weights and of the data: files exist, annotations parse, images can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cis_seg.build import crowd_spec
from cis_seg.checkpoints import checkpoint_metadata, load_file, model_state
from cis_seg.config.schema import Config, CrowdData
from cis_seg.data.records import InstanceDataset
from cis_seg.diagnostics.findings import Line, ok, problem, warning
from cis_seg.diagnostics.subject import Subject
from cis_seg.model.build import imagenet_file
from cis_seg.training.initial_weights import missing_base


def check_weights(subject: Subject) -> Iterator[Line]:
    """Check that the initial weights can be read: ``resume``, ``init_from`` or ``model.backbone.weights``."""
    cfg = subject.typed
    if isinstance(cfg.resume, str):
        load_file(Path(cfg.resume))
        yield ok(f"resume: {cfg.resume} is intact")
    elif cfg.init_from is not None:
        yield _init_from(cfg, Path(cfg.init_from))
    elif cfg.model.backbone.weights == "imagenet":
        yield _imagenet(imagenet_file(cfg.model.backbone))
    elif cfg.model.backbone.weights:
        load_file(Path(cfg.model.backbone.weights))
        yield ok(f"backbone: {cfg.model.backbone.weights} can be read")
    else:
        yield ok("none needed: the network starts from random weights")


def _init_from(cfg: Config, path: Path) -> Line:
    experiment = missing_base(cfg)
    if experiment is None:
        content = load_file(path)
        classes = checkpoint_metadata(content, path)["class_names"]
        return ok(f"init_from: {path}, {len(model_state(content, path))} tensors, {len(classes)} classes")
    if cfg.base_overrides is not None:
        return ok(f"init_from: {path} does not exist; the run trains experiment={experiment} first")
    remedy = f"train it first: python -m cis_seg.train experiment={experiment} seed={cfg.seed}"
    return problem(f"init_from: {path} does not exist", remedy)


def _imagenet(path: Path) -> Line:
    if not path.is_file():
        remedy = f"on a machine without internet access, copy torchvision's {path.name} there or set model.backbone.weights=FILE"
        return warning(f"{path} does not exist: the run downloads it when it starts", remedy)
    load_file(path)
    return ok(f"ImageNet: {path}, {path.stat().st_size / 2**20:.0f} MB")


def weights_available(cfg: Config) -> bool:
    """Return whether the initial weights can be loaded now, without a download and without training another run."""
    if cfg.init_from is not None:
        return missing_base(cfg) is None
    return cfg.model.backbone.weights != "imagenet" or imagenet_file(cfg.model.backbone).is_file()


#: image files whose existence is checked; a network file system answers for a few hundred files per second
FILES_CHECKED = 2000
#: images that are decoded
IMAGES_OPENED = 8


def check_data(subject: Subject) -> Iterator[Line]:
    """Check the training set and the scored set: the annotations, a sample of the files, a few images."""
    if subject.generates_crowd:
        assert isinstance(subject.typed.data, CrowdData)
        spec = crowd_spec(subject.typed.data)
        size = f"{spec.train_images} + {spec.val_images} images"
        yield ok(f"a crowd of {size}, generated in {subject.typed.data.root} when the run starts")
        return
    start = time.perf_counter()
    data = subject.data
    seconds = time.perf_counter() - start
    names, more = ", ".join(data.class_names[:5]), " ..." if len(data.class_names) > 5 else ""
    yield ok(f"annotations read in {seconds:.1f} s; classes: {names}{more}")
    for text in subject.data_warnings:
        yield warning(text, "to list every case, run cis-seg check with the same data options")
    yield from _check_set("training", data.train_dataset, subject.typed.data.max_faulty)
    data.check_scored(subject.typed.eval.area)
    yield from _check_set("scored", data.val_dataset, subject.typed.data.max_faulty)


def _check_set(part: str, dataset: InstanceDataset, max_faulty: float) -> Iterator[Line]:
    people = len(dataset.records.labels)
    text = f"{part}: {len(dataset)} images, {people} annotations in {dataset.source}"
    checked = evenly_spaced(len(dataset), FILES_CHECKED)
    missing = [path for index in checked if not (path := dataset.path(index)).is_file()]
    if missing:
        found = f"{text}; {len(missing)} of {len(checked)} image files are missing, for example {missing[0]}"
        remedy = "complete the download, or set data.images or data.val_images to the folder that the file names are relative to"
        # every scored image must exist; a fraction max_faulty of the training images may be missing, because others replace them
        yield (warning if part == "training" and len(missing) <= max_faulty * len(checked) else problem)(found, remedy)
        return
    start = time.perf_counter()
    sides = [dataset.sample(index).original_size for index in evenly_spaced(len(dataset), IMAGES_OPENED)]
    each = (time.perf_counter() - start) / len(sides)
    heights, widths = zip(*sides, strict=True)
    size = f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)} pixels"
    yield ok(f"{text}; {len(sides)} opened, {1000 * each:.0f} ms each, {size}")


def evenly_spaced(count: int, most: int) -> Sequence[int]:
    """Return at most ``most`` indices in 0 .. count - 1, evenly spaced, including the first and the last."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))
