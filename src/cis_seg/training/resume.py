"""Which options may change when a run is continued: the one table of them, and the comparison with a checkpoint's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cis_seg.checkpoints.reading import card_of, load_file
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.training.initial_weights import BELONG_TO_WEIGHTS

log = logging.getLogger(__name__)

_BEST = "best.ckpt is chosen by scores that must compare"
#: what must not change when a run is continued (a key, with all below it), and why
FIXED: dict[str, str] = {
    "seed": "every draw comes from it",
    "supervision": "it is another training",
    "model": "the weights are of that network",
    "data": "a step stands for images of that data set",
    "loss": "it is another training",
    "optim": "the optimiser's state belongs to it",
    "trainer.precision": "the state of the scaler belongs to it",
    "eval.score_threshold": _BEST,
    "eval.nms_threshold": _BEST,
    "eval.max_detections": _BEST,
    "eval.area": _BEST,
}
#: what may change all the same, and is logged; like all that FIXED does not name: max_steps, val_every, save_every, devices, loggers ...
FREE = {
    "data.root",  # the folder may have moved; the number of its images is compared
    "data.workers",
    "data.worker_timeout",
    "data.max_faulty",
    "data.test_batch_size",
    "data.score_train",
    "optim.max_bad_steps",
    *(f"model.{option}" for option in BELONG_TO_WEIGHTS),  # taken from the checkpoint anyway
}
#: of no interest: how the run was started, and what repeats other keys
UNSPOKEN = ("resume", "init_from", "init_classifier", "base_overrides", "trainer.max_steps", "trainer.default_root_dir", "paths.run")
#: groups whose entries are compared as wholes, because their keys are those of other libraries
WHOLE = ("logger", "callbacks")
ABSENT = "absent"


def check_changes(path: Path, now: dict[str, Any], *, images: int) -> None:
    """Compares the config ``now`` with that of the checkpoint ``path``; logs the changes that are allowed.

    Args:
        path: the checkpoint to continue from.
        now: the resolved config as plain containers.
        images: to train on.

    Raises:
        ConfigError: a change that is not allowed, by the name of its key, with the old and the new value.
        CheckpointError: no checkpoint of a run, but weights alone.
    """
    content = load_file(path)
    if "optimizer_states" not in content:
        raise CheckpointError(
            f"{path} holds weights alone",
            expected="a checkpoint of a run, with the optimiser's state",
            found=", ".join(sorted(map(str, content))[:8]),
            remedy=f"start a new run from these weights: init_from='{path}'",
        )
    card, step = card_of(content, path), content["global_step"]
    before, after = _flat(card["config"]), _flat(_at(now, card["config"]))
    changed = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in sorted(before.keys() | after.keys())}
    changed = {key: (old, new) for key, (old, new) in changed.items() if old != new and not _within(key, UNSPOKEN)}
    refused = {key: because for key, (old, new) in changed.items() if (because := _refusal(key, old, new, step))}
    if card.get("train_images", images) != images:
        changed["number of training images"], refused["number of training images"] = (card["train_images"], images), FIXED["data"]
    if refused:
        told = [f"{key}: {changed[key][0]} in the checkpoint, {changed[key][1]} now ({because})" for key, because in refused.items()]
        raise ConfigError(
            "a run cannot go on with other options than it began with",
            where=path,
            found="\n    ".join(["", *told]),
            remedy="take the old values back, or start a new run from a copy of this file: name=ANOTHER init_from=COPY",
        )
    for key, (old, new) in changed.items():
        log.info("resume: %s", f"{key} has changed" if key.startswith(WHOLE) else f"{key} is {new} now, was {old}")


def _refusal(key: str, old: Any, new: Any, step: int) -> str | None:
    """Why ``key`` must not change; None where it may."""
    if key == "schedule.max_steps":
        return f"the checkpoint has {step} steps already" if new < step else None
    if key == "schedule.decay_steps":
        return f"the rate of the first {step} steps would be another" if _until(old, step) != _until(new, step) else None
    if _within(key, FREE) or old == ABSENT:  # absent then: an option of a later version
        return None
    return next((because for fixed, because in FIXED.items() if _within(key, (fixed,))), None)


def _until(decay_steps: list[int], step: int) -> list[int]:
    return sorted(decay for decay in decay_steps if decay <= step)


def _within(key: str, prefixes: Any) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _at(now: dict[str, Any], before: dict[str, Any]) -> Any:
    """``now`` as if its run lay where that of ``before`` did: a folder that moved is no change of all the paths in it."""
    here, there = str(now["paths"]["run"]), str(before["paths"]["run"])

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        return value.replace(here, there) if isinstance(value, str) else value

    return now | {group: moved(now[group]) for group in WHOLE}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested config under dotted names."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    whole = any(prefix.startswith(f"{group}.") for group in WHOLE)
    for key, value in tree.items():
        if isinstance(value, dict) and not whole:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
