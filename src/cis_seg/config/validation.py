"""What every option of the schema may be: one table of ranges, and what must hold between options.

OmegaConf has checked names and types when a config reaches this file; here a value of the right type that cannot work (a negative
batch, a learning rate that is no number) is refused by its dotted name before anything is read or built. The upper ends are wide:
a number beyond one is a slip of the keyboard, or asks for more memory than any machine has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from math import prod
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig

from cis_seg.config import schema
from cis_seg.config.schema import Config, ModelConfig, OptimConfig
from cis_seg.data.crowdhuman import BOX_KEYS
from cis_seg.data.synthetic.spec import PRESETS
from cis_seg.errors import ConfigError
from cis_seg.losses.overlap import REDUCTIONS
from cis_seg.model.backbone import ARCHITECTURES


def option_of(override: str) -> str:
    """``loss.overlap.reduction`` of ``+loss.overlap.reduction=masks``."""
    return override.partition("=")[0].lstrip("+~")


def without_effect(cfg: Config, given: Iterable[str]) -> list[str]:
    """One line for each option of ``given`` that has no effect in ``cfg``, and for steps that come after the end.

    Args:
        cfg: the run.
        given: dotted names that its user has set; what a group file sets for many experiments is no mistake.
    """
    given = list(given)
    lines = [f"{option} has no effect: {reason}" for prefix, reason in _idle(cfg) for option in given if option.startswith(prefix)]
    return [*lines, *_after_the_end(cfg)]


def _idle(cfg: Config) -> Iterator[tuple[str, str]]:
    """Beginnings of option names that have no effect, and why."""
    weights, data, backbone = cfg.loss.weights, cfg.data, cfg.model.backbone
    if not weights.overlap:
        yield "loss.overlap.", "loss.weights.overlap is 0"
    if not weights.pairwise:
        yield "loss.pairwise.", "loss.weights.pairwise is 0"
    if not cfg.optim.warmup_steps:
        yield "optim.warmup_factor", "optim.warmup_steps is 0"
    if not cfg.schedule.decay_steps:
        yield "optim.decay_factor", "schedule.decay_steps is empty"
    if not backbone.weights:
        yield "model.backbone.frozen_stages", "model.backbone.weights is null, and what has no pretrained weights is trained"
    if data.train_size_range:
        yield "data.train_sizes", "data.train_size_range goes before it"
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
        yield f"schedule.decay_steps {', '.join(map(str, late))} come after the last step (schedule.max_steps={last})"
    if cfg.optim.warmup_steps >= last:
        yield f"optim.warmup_steps={cfg.optim.warmup_steps}: the full learning rate is not reached in schedule.max_steps={last}"


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


MAX_SIDE = 65_535  # px, because a JPEG's side ends there
MAX_STEPS = 10**9  # because at a thousand steps a second that is eleven days, and no run is faster
MAX_BATCH = 65_536
MAX_CHANNELS = 2048  # because one 3x3 convolution of that many has 38 million weights already
#: channels; elsewhere oneDNN's weight gradient of a 1x1 convolution with stride writes beyond its buffer (torch 2.14, channels last)
WIDTHS = 16
MAX_WORKERS = 256  # because each is a process of some hundred megabytes
MAX_SEED = 2**32 - 1  # numpy's and Lightning's
MAX_LR = 100.0  # because float32 cannot follow a weight that moves so far


@dataclass(frozen=True)
class Rule:
    """What one option may be, in words and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def between(low: float, high: float) -> Rule:
    """A number of the closed range; NaN is in none."""
    return Rule(f"{low:,.12g} to {high:,.12g}", lambda value: low <= value <= high)


def above(low: float, high: float) -> Rule:
    """More than ``low``, at most ``high``."""
    return Rule(f"more than {low:g}, at most {high:,.12g}", lambda value: low < value <= high)


def below(low: float, high: float) -> Rule:
    """At least ``low``, less than ``high``."""
    return Rule(f"{low:g} or more, less than {high:g}", lambda value: low <= value < high)


def multiple_of(step: int, high: int) -> Rule:
    """A whole multiple, from ``step`` on."""
    return Rule(f"a multiple of {step}, at most {high}", lambda value: 0 < value <= high and value % step == 0)


def one_of(*choices: object) -> Rule:
    """One of a few."""
    return Rule(" or ".join(map(str, choices)), lambda value: value in choices)


def each(rule: Rule, *lengths: int) -> Rule:
    """A list whose entries all keep ``rule``: of one of ``lengths`` entries, or of any number but none."""
    count = " or ".join(map(str, lengths)) if lengths else "one or more"
    return Rule(f"a list of {count}, each {rule.expected}", lambda values: _fits(len(values), lengths) and all(map(rule.holds, values)))


def _fits(length: int, lengths: tuple[int, ...]) -> bool:
    return length in lengths if lengths else length > 0


def _is_run_name(value: str) -> bool:
    path = PurePath(value)
    return not path.is_absolute() and ".." not in path.parts and all(len(part.encode()) <= 200 for part in path.parts)


SHARE, COUNT, ANY_COUNT = between(0, 1), between(1, 10**6), between(0, 10**6)
SIDE, STEPS, STEPS_OR_NONE, CHANNELS = between(1, MAX_SIDE), between(1, MAX_STEPS), between(0, MAX_STEPS), between(1, MAX_CHANNELS)
LAYERS = between(1, 64)
WEIGHT = between(0, 1e6)
TEXT = Rule("text without a zero byte", lambda value: bool(value) and "\0" not in value)
RUN_NAME = Rule("a name that stays below paths.runs: no '..', no '/' in front, 200 bytes a part at most", _is_run_name)
NAMES = Rule("one or more different names", lambda value: bool(value) and len(set(value)) == len(value))
BLOCKS = between(0, 23)  # because no stage has more

#: schema -> option -> what it may be; text and switches without a row may be anything of their type
RULES: dict[type, dict[str, Rule]] = {
    schema.BackboneConfig: {
        "depth": one_of(*ARCHITECTURES), "width": multiple_of(WIDTHS, 512), "norm": one_of("auto", "frozen", "batch"),
        "frozen_stages": between(0, 5), "deform_interval": BLOCKS,
    },
    schema.ModelConfig: {
        "pixel_mean": each(between(-1e6, 1e6), 3), "pixel_std": each(above(0, 1e6), 3), "channel_order": one_of("rgb", "bgr"),
        "neck": one_of("fpn", "bifpn"), "neck_channels": CHANNELS, "head_channels": CHANNELS, "head_convs": LAYERS,
        "head_norm_groups": CHANNELS, "size_ranges": each(above(0, 1e6), 4), "mask_feat_level": one_of(2, 3),
        "mask_branch_channels": CHANNELS, "mask_branch_convs": between(0, 64), "mask_feat_channels": between(1, 256),
        "mask_head_channels": between(1, 64), "mask_head_layers": between(2, 16), "mask_out_stride": one_of(1, 2, 4, 8),
        "masks_per_image": COUNT, "max_mask_samples": COUNT,
    },
    schema.DataConfig: {
        "train_sizes": each(SIDE), "train_size_range": each(SIDE, 2), "train_max_size": SIDE, "test_size": SIDE, "test_max_size": SIDE,
        "flip": SHARE, "photometric": one_of("none", "light", "strong"), "workers": between(0, MAX_WORKERS),
        "test_batch_size": between(1, MAX_BATCH), "worker_timeout": between(0, 10**6), "max_faulty": SHARE,
    },
    schema.CocoData: {"categories": NAMES},
    schema.CrowdHumanData: {"boxes": one_of(*BOX_KEYS)},
    schema.CrowdData: {"preset": one_of(*PRESETS), "crowd_seed": between(0, 2**31), "num_train": COUNT, "num_val": COUNT},
    schema.LossWeights: dict.fromkeys(("cls", "box", "ctr", "mask", "proj", "pairwise", "overlap"), WEIGHT),
    schema.PairwiseConfig: {
        "size": one_of(3, 5, 7, 9), "dilation": between(1, 64), "color_thresh": SHARE, "warmup_steps": STEPS_OR_NONE,
        "bottom_margin": between(0, MAX_SIDE),
    },
    schema.OverlapConfig: {"reduction": one_of(*REDUCTIONS)},
    schema.OptimConfig: {
        "name": one_of("sgd", "adamw"), "batch_size": between(1, MAX_BATCH), "accumulate": between(1, MAX_BATCH), "lr": between(0, MAX_LR),
        "momentum": below(0, 1), "weight_decay": between(0, 10), "warmup_steps": STEPS_OR_NONE, "warmup_factor": SHARE,
        "decay_factor": SHARE, "clip_norm": above(0, 1e9), "max_bad_steps": COUNT,
    },
    schema.ScheduleConfig: {
        "max_steps": STEPS, "decay_steps": Rule(f"a list of steps, each {STEPS.expected}", lambda steps: all(map(STEPS.holds, steps))),
        "val_every": STEPS, "save_every": STEPS,
    },
    schema.EvalConfig: {
        "score_threshold": SHARE, "nms_threshold": SHARE, "max_detections": COUNT, "draw_threshold": SHARE,
        "area": one_of("published", "mask"),
    },
    schema.Config: {
        "name": RUN_NAME, "seed": between(0, MAX_SEED), "init_classifier": one_of("match", "fresh"),
        "supervision": one_of("box", "mask"), "resume": Rule("true, false or a checkpoint", lambda value: isinstance(value, bool | str)),
    },
    schema.EvaluateConfig: {"test_size": SIDE, "max_size": SIDE, "score_threshold": SHARE},
    schema.PredictConfig: {
        "test_size": SIDE, "max_size": SIDE, "score_threshold": SHARE, "draw_threshold": SHARE, "nms_threshold": SHARE,
        "max_detections": COUNT, "categories": NAMES, "overlay_size": SIDE, "batch_size": between(1, MAX_BATCH),
    },
    schema.ExportConfig: {"score_threshold": SHARE, "nms_threshold": SHARE, "max_detections": COUNT},
    schema.FigureConfig: {"count": COUNT, "titles": each(TEXT, 2), "draw_threshold": SHARE},
    schema.MasksFromBoxesConfig: {"test_size": SIDE, "max_size": SIDE, "pages": ANY_COUNT},
    schema.SelectConfig: {
        "min_people": COUNT, "max_people": COUNT, "min_iou": above(0, 1), "touching": SHARE, "iou_boxes": one_of("visible", "full"),
        "min_side": between(0, MAX_SIDE), "max_regions": ANY_COUNT, "count": COUNT, "seed": between(0, MAX_SEED),
        "photos": one_of("list", "link", "copy"), "masks": one_of("polygons", "rle"),
    },
    schema.BrowseConfig: {
        "num_batches": ANY_COUNT, "batch_size": between(1, MAX_BATCH), "num_truth": ANY_COUNT, "seed": between(0, MAX_SEED),
    },
}  # fmt: skip


def checked(cfg: DictConfig) -> Any:
    """The resolved config as the dataclasses of ``config.py``, every value one that can work.

    Raises:
        ConfigError: the first option that cannot, by its dotted name.
    """
    typed = schema.to_dataclass(cfg)
    for problem in problems(typed):
        raise problem
    return typed


def problems(typed: Any) -> Iterator[ConfigError]:
    """Every option that cannot work, and then every two that cannot work together, as the errors that ``checked`` raises."""
    wrong = list(_out_of_range(typed, ""))
    yield from wrong
    if isinstance(typed, schema.Config) and not wrong:
        yield from (_refusal(conflict) for conflict in conflicts(typed))


def rule_of(owner: type, option: str) -> Rule | None:
    """What the table says about an option of a schema class or of the classes that it extends."""
    return next((RULES[base][option] for base in owner.__mro__ if option in RULES.get(base, {})), None)


def _out_of_range(node: Any, prefix: str) -> Iterator[ConfigError]:
    for option in fields(node):
        value, key = getattr(node, option.name), prefix + option.name
        if is_dataclass(value):
            yield from _out_of_range(value, f"{key}.")
        elif value is not None:
            rule = rule_of(type(node), option.name)
            for needed in (TEXT if isinstance(value, str) else None, rule):
                if needed is not None and not needed.holds(value):
                    yield ConfigError(
                        f"{key}: this value cannot work",
                        where=key,
                        expected=needed.expected,
                        found=repr(value)[:200],
                        remedy=_default(option, key),
                    )
                    break


def _default(option: Field[Any], key: str) -> str:
    default = option.default_factory() if option.default_factory is not MISSING else option.default
    known = default is not MISSING and default != "???"
    return f"the schema's default is {key}={'null' if default is None else default}" if known else f"set {key}=..."


def _refusal(conflict: Conflict) -> ConfigError:
    return ConfigError(
        f"{conflict.key}: {conflict.problem}", where=conflict.key, expected=conflict.expected, found=conflict.found, remedy=conflict.remedy
    )
