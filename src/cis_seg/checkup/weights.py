"""The weights a run starts from: are they there, can they be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cis_seg.build_model import imagenet_file
from cis_seg.checkpoint import card_of, load_file, model_state
from cis_seg.checkup.finding import Line, ok, problem, warning
from cis_seg.checkup.subject import Subject
from cis_seg.config import Config
from cis_seg.start import missing_base


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
