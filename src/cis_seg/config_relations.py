"""What must hold between two options of a training run, each of which is fine by itself; what a constructor can see, it refuses itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from cis_seg.config import Config, ModelConfig, OptimConfig


@dataclass(frozen=True)
class Conflict:
    """Two options that cannot work together; ``key`` is the one to change first."""

    key: str
    problem: str
    expected: object
    found: object
    remedy: str


def conflicts(cfg: Config) -> Iterator[Conflict]:
    """Every conflict of a run's options that would show only after the data are read."""
    yield from _model(cfg.model)
    yield from _losses(cfg)
    yield from _batch(cfg.optim, cfg.trainer)


def _model(model: ModelConfig) -> Iterator[Conflict]:
    groups, channels, ranges = model.head_norm_groups, model.head_channels, model.size_ranges
    if channels % groups:
        fitting = next(divisor for divisor in range(min(groups, channels), 0, -1) if channels % divisor == 0)
        yield Conflict(
            "model.head_norm_groups",
            "the channels of the head do not divide into these groups",
            f"a divisor of {channels} (model.head_channels)",
            groups,
            f"set model.head_norm_groups={fitting}",
        )
    if sorted(set(ranges)) != ranges:
        yield Conflict("model.size_ranges", "the levels' borders do not rise", "rising pixels", ranges, "the default is [64,128,256,512]")


def _losses(cfg: Config) -> Iterator[Conflict]:
    weights = cfg.loss.weights
    if not any(vars(weights).values()):
        yield Conflict("loss.weights", "no loss is left to train on", "a weight above 0", "0 everywhere", "set loss.weights.cls=1, for one")
    if weights.mask and cfg.supervision != "mask":
        found = f"{weights.mask:g} with supervision={cfg.supervision}"
        yield Conflict("loss.weights.mask", "true masks are not read", "0", found, "choose supervision=mask, or set loss.weights.mask=0")


def _batch(optim: OptimConfig, trainer: Any) -> Iterator[Conflict]:
    """The global batch in equal parts; devices that are not given as a number are known only to the sampler."""
    given = [(trainer or {}).get(key, 1) for key in ("devices", "num_nodes")]
    processes = prod(value for value in given if isinstance(value, int) and value > 0)
    parts = processes * optim.accumulate
    if optim.batch_size % parts:
        yield Conflict(
            "optim.batch_size",
            "the global batch cannot be cut into equal parts",
            f"a multiple of {processes} devices x {optim.accumulate} micro-batches (optim.accumulate) = {parts}",
            optim.batch_size,
            f"set optim.batch_size={max(round(optim.batch_size / parts), 1) * parts}, or change trainer.devices or optim.accumulate",
        )
