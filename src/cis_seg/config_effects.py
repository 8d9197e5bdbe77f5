"""Options that change nothing, because another option takes away what they act on: they are told, not ignored in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cis_seg.config import Config


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
