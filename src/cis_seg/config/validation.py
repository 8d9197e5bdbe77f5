"""Validation of a composed config: each option against its rule, and the options of a run against each other.

OmegaConf has already checked types, and names except those added with ``+``. An unknown name or an invalid value is refused by its dotted
name before anything is read or built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cis_seg.config.devices import device_count, device_problems
from cis_seg.config.library_options import target_problems, trainer_problems
from cis_seg.config.option_names import dotted, unknown_option
from cis_seg.config.plain import to_dataclass
from cis_seg.config.rules import NOT_NONE, TEXT, Rule
from cis_seg.config.schema import Config, ModelConfig, OptimConfig
from cis_seg.errors import CheckpointError, ConfigError

Node = TypeVar("Node")


def option_of(override: str) -> str:
    """Return the option of an override: ``loss.overlap.reduction`` of ``+loss.overlap.reduction=masks``."""
    return override.partition("=")[0].lstrip("+~")


def without_effect(cfg: Config, given: Iterable[str]) -> list[str]:
    """Return a line for each option of ``given`` without effect in ``cfg``, and for scheduled steps after the last one.

    Args:
        cfg: the run.
        given: dotted names that the user has set; a group file may set options for several experiments.
    """
    given = list(given)
    lines = [f"{option} has no effect: {reason}" for prefix, reason in _idle(cfg) for option in given if option.startswith(prefix)]
    return [*lines, *_after_the_end(cfg)]


def _idle(cfg: Config) -> Iterator[tuple[str, str]]:
    """Yield prefixes of option names without effect, each with the reason."""
    weights, data, backbone = cfg.loss.weights, cfg.data, cfg.model.backbone
    if not weights.overlap:
        yield "loss.overlap.", "loss.weights.overlap is 0"
    if not weights.teacher:
        yield "teacher.", "loss.weights.teacher is 0"
    elif not cfg.teacher.refine:
        yield "teacher.color", "teacher.refine is 0"
    elif not cfg.teacher.colors:
        yield "teacher.color_", "teacher.colors is 0"
    if cfg.supervision != "mixed":
        yield "mixed.", f"supervision is {cfg.supervision}"
    if not weights.pairwise:
        yield "loss.pairwise.", "loss.weights.pairwise is 0"
    if not cfg.optim.warmup_steps:
        yield "optim.warmup_factor", "optim.warmup_steps is 0"
    if not cfg.schedule.decay_steps:
        yield "optim.decay_factor", "schedule.decay_steps is empty"
    if not backbone.weights:
        yield "model.backbone.frozen_stages", "model.backbone.weights is null, so all stages are trained"
    if backbone.name != "resnet":
        options = ("depth", "width", "stride_in_1x1", "deform_interval")
        yield from ((f"model.backbone.{option}", f"it is an option of a resnet, not of {backbone.name}") for option in options)
    if data.train_size_range:
        yield "data.train_sizes", "data.train_size_range takes precedence"
    if not data.workers:
        yield "data.worker_timeout", "data.workers is 0"
    if cfg.init_from is None:
        yield from ((option, "init_from is null") for option in ("init_classifier", "base_overrides"))
    else:
        belonging = ("channel_order", "pixel_mean", "pixel_std", "backbone.stride_in_1x1", "backbone.norm", "backbone.weights")
        yield from ((f"model.{option}", "it follows the weights of init_from") for option in belonging)


def _after_the_end(cfg: Config) -> Iterator[str]:
    last: int = cfg.schedule.max_steps
    late: Sequence[int] = [step for step in cfg.schedule.decay_steps if step >= last]
    if late:
        yield f"schedule.decay_steps {', '.join(map(str, late))} are after the last step (schedule.max_steps={last})"
    if cfg.optim.warmup_steps >= last:
        yield f"optim.warmup_steps={cfg.optim.warmup_steps}: the full learning rate is not reached in schedule.max_steps={last}"
    if cfg.data.half_size_steps >= last:
        yield f"data.half_size_steps={cfg.data.half_size_steps}: no image of its full size is reached in schedule.max_steps={last}"


@dataclass(frozen=True)
class Conflict:
    """Two options that cannot work together; ``key`` is the one to change first."""

    key: str
    problem: str
    expected: object
    found: object
    remedy: str


def conflicts(cfg: Config) -> Iterator[Conflict]:
    """Yield every conflict between a run's options, which would otherwise fail only after the data are read."""
    yield from _model(cfg.model)
    yield from _losses(cfg)
    yield from _teacher(cfg)
    yield from _batch(cfg.optim, cfg.trainer)


def _model(model: ModelConfig) -> Iterator[Conflict]:
    groups, channels, ranges = model.head_norm_groups, model.head_channels, model.size_ranges
    if channels % groups:
        fitting = next(divisor for divisor in range(min(groups, channels), 0, -1) if channels % divisor == 0)
        yield Conflict(
            "model.head_norm_groups",
            "the head's channels are not divisible into these groups",
            f"a divisor of {channels} (model.head_channels)",
            groups,
            f"set model.head_norm_groups={fitting}",
        )
    if sorted(set(ranges)) != ranges:
        yield Conflict(
            "model.size_ranges",
            "the limits between the levels do not increase",
            "increasing pixels",
            ranges,
            "the default is [64,128,256,512]",
        )


def _losses(cfg: Config) -> Iterator[Conflict]:
    weights = cfg.loss.weights
    if not any(vars(weights).values()):
        yield Conflict("loss.weights", "every loss has weight 0", "a weight above 0", "0 everywhere", "for example loss.weights.cls=1")
    found = f"{weights.mask:g} with supervision={cfg.supervision}"
    if weights.mask and cfg.supervision == "box":
        remedy = "choose supervision=mask or supervision=mixed, or set loss.weights.mask=0"
        yield Conflict("loss.weights.mask", "no ground-truth masks are loaded", "0", found, remedy)
    if not weights.mask and cfg.supervision == "mixed":
        remedy = "choose supervision=box, or set loss.weights.mask=1"
        yield Conflict("loss.weights.mask", "nothing would train the masks of instances that have one", "more than 0", found, remedy)


def _teacher(cfg: Config) -> Iterator[Conflict]:
    teacher = cfg.teacher
    if teacher.ignored != sorted(teacher.ignored):
        yield Conflict("teacher.ignored", "the limits do not increase", "[low,high]", teacher.ignored, "set [0.5,0.5] to ignore no pixel")
    if cfg.loss.weights.teacher and cfg.supervision == "mask":
        yield Conflict(
            "loss.weights.teacher",
            "a teacher predicts masks for boxes, and supervision=mask has their ground-truth masks",
            "0",
            f"{cfg.loss.weights.teacher:g} with supervision=mask",
            "choose supervision=box, or set loss.weights.teacher=0",
        )
    if cfg.loss.weights.teacher and cfg.ema and cfg.ema != teacher.momentum:
        found = f"ema={cfg.ema:g}, teacher.momentum={teacher.momentum:g}"
        yield Conflict(
            "ema", "one running average is kept, which is the teacher", "ema=0 or teacher.momentum", found, "set both to one value"
        )


def _batch(optim: OptimConfig, trainer: Any) -> Iterator[Conflict]:
    """Check that the global batch divides equally; for ``devices=auto`` or -1 only the sampler can check it."""
    processes = prod(device_count((trainer or {}).get(key, 1)) for key in ("devices", "num_nodes"))
    parts = processes * optim.accumulate
    if optim.batch_size % parts:
        yield Conflict(
            "optim.batch_size",
            "the global batch does not divide into equal parts",
            f"a multiple of {processes} devices x {optim.accumulate} micro-batches (optim.accumulate) = {parts}",
            optim.batch_size,
            f"set optim.batch_size={max(round(optim.batch_size / parts), 1) * parts}, or change trainer.devices or optim.accumulate",
        )


def checked(cfg: DictConfig) -> Any:
    """Return the resolved config as its schema's dataclasses, with every value validated.

    Raises:
        ConfigError: the first option that cannot work, by its dotted name.
    """
    if _needs_no_root(cfg):
        cfg = cfg.copy()
        cfg.data.root = "."
    typed = to_dataclass(cfg)
    for problem in problems(typed):
        raise problem
    return typed


def node_from_plain(schema: type[Node], plain: Any, path: Path, key: str) -> Node:
    """Return part of a checkpoint's config as the dataclass ``schema``, with every value validated. Missing options get their defaults.

    Args:
        schema: the options.
        plain: the part, as the checkpoint holds it.
        path: of the checkpoint, for messages.
        key: name of the part in the config, for messages.

    Raises:
        CheckpointError: an unknown option or an invalid value.
    """
    try:
        if not isinstance(plain, dict):
            raise ConfigError("it is not a mapping of options", found=type(plain).__name__)
        node: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
        for problem in problems(node):
            raise problem
    except (OmegaConfBaseException, ConfigError) as error:
        raise CheckpointError(
            f"the config in {path} does not fit this version of cis_seg",
            where=f"{path}, config.{key}",
            expected=f"the options of {key}: {', '.join(option.name for option in fields(cast('Any', schema)))}",
            found=" ".join(str(error).split("\n    full_key")[0].split()),
            remedy="use the version of cis_seg that wrote the file, or write it again",
        ) from error
    assert isinstance(node, schema)
    return node


def _needs_no_root(cfg: DictConfig) -> bool:
    """Whether a results file is scored on an annotation file that is named, so that no image folder is read."""
    scored = "predictions" in cfg and cfg.predictions is not None and cfg.data.annotations is not None
    return scored and OmegaConf.is_missing(cfg.data, "root")


def problems(typed: Any) -> Iterator[ConfigError]:
    """Yield an error for every unknown option and every broken rule; if there are none, for every conflict between options."""
    known = [name for name in dotted(asdict(typed)) if name != "defaults"]
    wrong = [*_unknown(typed, "", known), *_out_of_range(typed, "")]
    yield from wrong
    if isinstance(typed, ModelConfig) and not wrong:
        yield from map(_refusal, _model(typed))
    if isinstance(typed, Config) and not wrong:
        yield from trainer_problems(typed)
        yield from target_problems(typed)
        yield from device_problems(typed.trainer)
        yield from (_refusal(conflict) for conflict in conflicts(typed))


def _unknown(node: Any, prefix: str, known: Sequence[str]) -> Iterator[ConfigError]:
    """Yield an error for every name that a ``+`` has added to a schema; OmegaConf sets it as an attribute, which nothing reads."""
    names = {option.name for option in fields(node)}
    for name, value in vars(node).items():
        if name not in names:
            yield unknown_option(prefix + name, known)
        elif is_dataclass(value):
            yield from _unknown(value, f"{prefix}{name}.", known)


def _out_of_range(node: Any, prefix: str) -> Iterator[ConfigError]:
    for option in fields(node):
        value, key = getattr(node, option.name), prefix + option.name
        if is_dataclass(value):
            yield from _out_of_range(value, f"{key}.")
        elif value is not None and (broken := _broken_rule(option, value)) is not None:
            yield ConfigError(
                f"{key}: invalid value",
                where=key,
                expected=broken.expected,
                found=repr(value)[:200],
                remedy=_default(option, key),
            )


def _broken_rule(option: Field[Any], value: Any) -> Rule | None:
    rules = (NOT_NONE, TEXT) if isinstance(value, str) else ()
    return next((rule for rule in (*rules, option.metadata.get("rule")) if rule is not None and not rule.holds(value)), None)


def _default(option: Field[Any], key: str) -> str:
    default = option.default_factory() if option.default_factory is not MISSING else option.default
    known = default is not MISSING and default != "???"
    return f"the schema's default is {key}={'null' if default is None else default}" if known else f"set {key}=..."


def _refusal(conflict: Conflict) -> ConfigError:
    return ConfigError(
        f"{conflict.key}: {conflict.problem}", where=conflict.key, expected=conflict.expected, found=conflict.found, remedy=conflict.remedy
    )
