"""Resuming a run: which options may change, and the comparison with the checkpoint's options and data."""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.checkpoints import checkpoint_metadata, load_file
from cis_seg.data.instance_datamodule import InstanceDataModule
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.training.initial_weights import BELONG_TO_WEIGHTS

log = logging.getLogger(__name__)

#: key of a checkpoint: the step of the last completed validation
SCORED_STEP = "scored_step"

_OTHER_TRAINING = "it is another training"
_START = "the weights of this run began there"
#: options that must not change when a run is resumed (a key and everything below it), with the reason
FIXED: dict[str, str] = {
    "seed": "it determines every random choice",
    "supervision": _OTHER_TRAINING,
    "init_from": _START,
    "init_classifier": _START,
    "model": "the weights belong to that network",
    "data": "the steps so far were trained on that data set",
    "loss": _OTHER_TRAINING,
    "optim": "the optimiser's state belongs to it",
    "trainer.precision": "the gradient scaler's state belongs to it",
}
#: options that may change, with the reason; the longest key of both tables that matches an option decides
FREE: dict[str, str] = {
    "name": "resume=FILE may continue another run",
    "paths": "the folder may have moved",
    "data.root": "the folder may have moved; the images are compared",
    "data.workers": "affects speed only",
    "data.worker_timeout": "decides only when workers are reported to hang",
    "data.max_faulty": "decides only when a run gives up",
    "data.test_batch_size": "affects the speed of scoring only",
    "data.score_train": "adds scores",
    "optim.max_bad_steps": "decides only when a run gives up",
    **{f"model.{option}": "is taken from the checkpoint" for option in BELONG_TO_WEIGHTS},
    "schedule": "the run may become longer; the steps so far are compared",
    "eval": "affects scoring only; best.ckpt is chosen again",
    "compile": "affects speed only",
    "memory_format": "affects speed and rounding",
    "trainer": "devices and the like; options that change the training are set elsewhere",
    "logger": "affects what is recorded",
    "callbacks": "affects what is recorded and when a run stops",
}
#: options that determine the scores of a finished run
SCORING = (
    *("eval.score_threshold", "eval.nms_threshold", "eval.max_detections", "eval.area"),
    *("eval.cut_to_box", "eval.refine", "eval.flip", "eval.rescore", "data.score_train"),
)
#: not compared: how the run was started, and copies of other options
NOT_COMPARED = ("resume", "base_overrides", "trainer.max_steps", "trainer.default_root_dir", "paths.run")
#: groups whose entries are compared as a whole, because their keys belong to other libraries
WHOLE = ("logger", "callbacks")
ABSENT = "absent"
#: entries of a checkpoint's metadata about its data, as messages name them
_DATA_NAMES = {
    "train_images": "number of training images",
    "train_files": "hash of the ids and file names of the training images",
    "class_names": "classes",
}


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run continues from.

    Attributes:
        path: the file.
        step: completed training steps.
        scored_step: step of the last completed validation, -1 if there is none.
        metadata: the checkpoint's metadata: resolved config, classes, training images.
    """

    path: Path
    step: int
    scored_step: int
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ResumePoint:
        """Read the checkpoint ``path``.

        Raises:
            CheckpointError: the file cannot be read, or contains weights only.
        """
        content = load_file(path)
        if "optimizer_states" not in content:
            raise CheckpointError(
                f"{path} contains weights only",
                expected="a checkpoint of a run, with the optimiser's state",
                found=", ".join(sorted(map(str, content))[:8]),
                remedy=f"start a new run from these weights: init_from='{path}'",
            )
        return cls(path, content["global_step"], content.get(SCORED_STEP, -1), checkpoint_metadata(content, path))

    def validation_due(self, every_n_steps: int) -> bool:
        """See the function of the same name."""
        return validation_due({"global_step": self.step, SCORED_STEP: self.scored_step}, every_n_steps)


def validation_due(checkpoint: Mapping[str, Any], every_n_steps: int) -> bool:
    """Return whether ``checkpoint`` was written before the validation of its step was completed."""
    step: int = checkpoint.get("global_step", 0)
    return step > 0 and step % every_n_steps == 0 and checkpoint.get(SCORED_STEP) != step


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command that continues the run which ``arguments`` started."""
    kept = [argument for argument in arguments if not argument.startswith("resume=")]
    return shlex.join(["python", "-m", "cis_seg.train", *kept, "resume=true"])


def check_options(point: ResumePoint, now: dict[str, Any], *, finished: bool) -> None:
    """Compare the config ``now`` with the checkpoint's.

    Args:
        point: the checkpoint to continue from.
        now: the resolved config as plain containers.
        finished: nothing is trained, the scores of the finished run are reported.

    Raises:
        ConfigError: a change that is not allowed: its key, the old and the new value.
    """
    changed = _changed(point.metadata["config"], now)
    refused = {key: reason for key, (old, new) in changed.items() if (reason := _refusal(key, old, new, point.step, finished=finished))}
    if refused:
        raise _refused(point.path, {key: (*changed[key], reason) for key, reason in refused.items()})


def log_changes(point: ResumePoint, now: dict[str, Any]) -> None:
    """Log the options that ``check_options`` has allowed to change."""
    for key, (old, new) in _changed(point.metadata["config"], now).items():
        log.info("resume: %s", f"{key} has changed" if key.startswith(WHOLE) else f"{key} is {new} now, was {old}")


def check_data(point: ResumePoint, data: InstanceDataModule) -> None:
    """Compare the training images and the classes with those that the checkpoint was trained on.

    Raises:
        ConfigError: they differ.
    """
    now = data_metadata(data)
    before = {key: point.metadata.get(key, value) for key, value in now.items()}  # older checkpoints lack some
    changes = {name: (before[key], now[key], FIXED["data"]) for key, name in _DATA_NAMES.items() if before[key] != now[key]}
    if changes:
        raise _refused(point.path, changes)


def data_metadata(data: InstanceDataModule) -> dict[str, Any]:
    """Return what a checkpoint's metadata contain about the data: classes, and the training images' number and fingerprint.

    The fingerprint covers ids and file names only, so that annotations may be corrected before a run is resumed.
    """
    records = data.train_dataset.records
    names = (records.file_names[index] for index in range(len(records.file_names)))
    files = hashlib.sha256(records.image_ids.tobytes() + b"\0".join(names)).hexdigest()[:16]
    return {
        "class_names": list(data.class_names),
        "category_ids": list(data.category_ids),
        "train_images": len(data.train_dataset),
        "train_files": files,
    }


def _refused(path: Path, changes: Mapping[str, tuple[Any, Any, str]]) -> ConfigError:
    lines = [f"{key}: {old} in the checkpoint, {new} now ({reason})" for key, (old, new, reason) in changes.items()]
    return ConfigError(
        "the options differ from those that the run was started with",
        where=path,
        found="\n    ".join(["", *lines]),
        remedy="restore the old values, or train a new run: name=ANOTHER (from these weights: copy this file, set init_from=COPY)",
    )


def _changed(config: Mapping[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, in order, each with its old and its new value."""
    before, after = _flat(config), _flat(_relocated(now, config))
    if _weights(before) == _weights(after):
        before["init_from"] = after["init_from"]
    pairs = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in sorted(before.keys() | after.keys())}
    return {key: (old, new) for key, (old, new) in pairs.items() if old != new and _matching(key, NOT_COMPARED) is None}


def _refusal(key: str, old: Any, new: Any, step: int, *, finished: bool) -> str | None:
    """Return why ``key`` must not change, or None if it may."""
    if key == "schedule.max_steps":
        return f"the checkpoint has {step} steps already" if new < step else None
    if key == "schedule.decay_steps":
        return f"the learning rate of the first {step} steps would differ" if _until(old, step) != _until(new, step) else None
    if old == ABSENT:  # an option of a later version
        return None
    if finished and _matching(key, SCORING) is not None:
        return "the run is finished and scored; score it again with python -m cis_seg.evaluate checkpoint=FILE"
    table = FREE | FIXED
    matching = _matching(key, table)
    return None if matching in FREE else table[matching] if matching is not None else _OTHER_TRAINING


def _until(decay_steps: list[int], step: int) -> list[int]:
    return sorted(decay for decay in decay_steps if decay <= step)


def _matching(key: str, prefixes: Iterable[str]) -> str | None:
    """Return the longest of ``prefixes`` that is ``key`` or a group that contains it."""
    return max((prefix for prefix in prefixes if key == prefix or key.startswith(f"{prefix}.")), key=len, default=None)


def _weights(config: Mapping[str, Any]) -> Path | None:
    """Return ``init_from``, relative to the folder of the runs if it is in there, because that folder may have moved."""
    if config.get("init_from") is None:
        return None
    path, runs = Path(config["init_from"]).expanduser().resolve(), Path(config.get("paths.runs", ".")).expanduser().resolve()
    return path.relative_to(runs) if path.is_relative_to(runs) else path


def _relocated(now: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``now`` with the run's folder of ``before``, so that a moved folder does not change every path in it."""
    here, there = str(now["paths"]["run"]), str(before["paths"]["run"])

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        return value.replace(here, there) if isinstance(value, str) else value

    return now | {group: moved(now[group]) for group in WHOLE}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a nested config under dotted names."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    whole = any(prefix.startswith(f"{group}.") for group in WHOLE)
    for key, value in tree.items():
        if isinstance(value, dict) and not whole:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
