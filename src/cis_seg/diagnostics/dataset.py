"""The data: annotation files that parse, image files that are there, images that open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cis_seg.build import crowd_spec
from cis_seg.checkpoints.reading import card_of, load_file, model_state
from cis_seg.config.schema import Config, CrowdData
from cis_seg.data.records import InstanceDataset
from cis_seg.diagnostics.finding import Line, ok, problem, warning
from cis_seg.diagnostics.subject import Subject
from cis_seg.model.build import imagenet_file
from cis_seg.training.initial_weights import missing_base


def check_weights(subject: Subject) -> Iterator[Line]:
    """``init_from``, else ``model.backbone.weights``."""
    cfg = subject.typed
    if isinstance(cfg.resume, str):
        load_file(Path(cfg.resume))
        yield ok(f"resume: {cfg.resume} is whole")
    elif cfg.init_from is not None:
        yield _start(cfg, Path(cfg.init_from))
    elif cfg.model.backbone.weights == "imagenet":
        yield _imagenet(imagenet_file(cfg.model.backbone.depth))
    elif cfg.model.backbone.weights:
        load_file(Path(cfg.model.backbone.weights))
        yield ok(f"backbone: {cfg.model.backbone.weights} can be read")
    else:
        yield ok("none needed: the network starts from chance")


def _start(cfg: Config, path: Path) -> Line:
    experiment = missing_base(cfg)
    if experiment is None:
        content = load_file(path)
        classes = card_of(content, path)["class_names"]
        return ok(f"init_from: {path}, {len(model_state(content, path))} tensors, {len(classes)} classes")
    if cfg.base_overrides is not None:
        return ok(f"init_from: {path} is not there; the run trains experiment={experiment} first")
    return problem(f"init_from: {path} is not there", f"train it first: python -m cis_seg.train experiment={experiment} seed={cfg.seed}")


def _imagenet(path: Path) -> Line:
    if not path.is_file():
        remedy = f"without a network put torchvision's {path.name} there, or set model.backbone.weights=FILE"
        return warning(f"{path} is not there: the run downloads it when it starts", remedy)
    load_file(path)
    return ok(f"ImageNet: {path}, {path.stat().st_size / 2**20:.0f} MB")


def at_hand(cfg: Config) -> bool:
    """Whether the first weights can be loaded now, without a network and without training another run."""
    if cfg.init_from is not None:
        return missing_base(cfg) is None
    return cfg.model.backbone.weights != "imagenet" or imagenet_file(cfg.model.backbone.depth).is_file()


#: because a network file system answers for some hundred files a second, and nobody waits minutes for a doctor
LOOKED_FOR = 2000
OPENED = 8


def check_data(subject: Subject) -> Iterator[Line]:
    """Both sets: what they hold, a sample of their files, some of their images."""
    if subject.to_be_drawn:
        assert isinstance(subject.typed.data, CrowdData)
        spec = crowd_spec(subject.typed.data)
        yield ok(f"a crowd of {spec.train_images} + {spec.val_images} images, drawn into {subject.typed.data.root} when the run starts")
        return
    start = time.perf_counter()
    data = subject.data
    seconds = time.perf_counter() - start
    names, more = ", ".join(data.class_names[:5]), " ..." if len(data.class_names) > 5 else ""
    yield ok(f"annotations read in {seconds:.1f} s; classes: {names}{more}")
    for text in subject.data_warnings:
        yield warning(text, "python scripts/check_dataset.py with the same data options lists every case")
    yield from _check_set("training", data.train_dataset, subject.typed.data.max_faulty)
    data.check_scored(subject.typed.eval.area)
    yield from _check_set("scored", data.val_dataset, subject.typed.data.max_faulty)


def _check_set(part: str, dataset: InstanceDataset, max_faulty: float) -> Iterator[Line]:
    people = len(dataset.records.labels)
    text = f"{part}: {len(dataset)} images, {people} annotations in {dataset.source}"
    places = spread(len(dataset), LOOKED_FOR)
    missing = [path for place in places if not (path := dataset.path(place)).is_file()]
    if missing:
        found = f"{text}; {len(missing)} of {len(places)} image files looked for are missing, {missing[0]} for one"
        remedy = "complete the download, or set data.images or data.val_images to the folder that the file names are relative to"
        # a scored image must be there; in training up to max_faulty others take the places
        yield (warning if part == "training" and len(missing) <= max_faulty * len(places) else problem)(found, remedy)
        return
    turned = dataset.turned_photos()
    if (wrong := turned.problem(dataset.exif)) is not None:
        yield warning(f"{part}: {wrong[0]}", wrong[1])
    yield from (ok(f"{part}: {remark}") for remark in turned.remarks())
    start = time.perf_counter()
    sides = [dataset.sample(place).original_size for place in spread(len(dataset), OPENED)]
    each = (time.perf_counter() - start) / len(sides)
    heights, widths = zip(*sides, strict=True)
    size = f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)} pixels"
    yield ok(f"{text}; {len(sides)} opened, {1000 * each:.0f} ms each, {size}")


def spread(count: int, most: int) -> Sequence[int]:
    """At most ``most`` places of 0 .. count - 1, evenly, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))
