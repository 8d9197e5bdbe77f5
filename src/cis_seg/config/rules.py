"""The allowed values of an option, and ``option``, which declares one with its default, its meaning and its rule.

OmegaConf checks names and types. A rule refuses a value of the right type that cannot work: a negative batch size, a NaN learning rate.
Upper bounds are generous: a larger number is a typing mistake, or needs more memory than any machine has.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

MAX_SIDE = 65_535  # px, the largest side of a JPEG
MAX_STEPS = 10**9  # eleven days at a thousand steps per second, which no run reaches
MAX_BATCH = 65_536
MAX_CHANNELS = 2048  # one 3x3 convolution of that width already has 38 million weights
MAX_WORKERS = 256  # each is a process of some hundred megabytes
MAX_SEED = 2**32 - 1  # numpy's and Lightning's limit


@dataclass(frozen=True)
class Rule:
    """The values that an option accepts.

    Args:
        expected: the rule in words, for messages and ``--help``.
        holds: whether a value satisfies it.
        in_help: whether ``--help`` prints it; the limits of most numbers only catch typing mistakes.
    """

    expected: str
    holds: Callable[[Any], bool]
    in_help: bool = False


def between(low: float, high: float) -> Rule:
    """A number in the closed interval; never NaN."""
    return Rule(f"{low:,.12g} to {high:,.12g}", lambda value: low <= value <= high)


def above(low: float, high: float) -> Rule:
    """A number greater than ``low`` and at most ``high``."""
    return Rule(f"more than {low:g}, at most {high:,.12g}", lambda value: low < value <= high)


def below(low: float, high: float) -> Rule:
    """A number of at least ``low`` and less than ``high``."""
    return Rule(f"{low:g} or more, less than {high:g}", lambda value: low <= value < high)


def multiple_of(step: int, high: int) -> Rule:
    """A positive multiple of ``step``."""
    return Rule(f"a multiple of {step}, at most {high}", lambda value: 0 < value <= high and value % step == 0)


def one_of(*choices: object) -> Rule:
    """One of the given values."""
    return Rule(" or ".join(map(str, choices)), lambda value: value in choices, in_help=True)


def each(rule: Rule, *lengths: int, empty: bool = False) -> Rule:
    """A list whose entries satisfy ``rule``, of one of ``lengths`` entries; by default of any number but zero."""
    count = " or ".join(map(str, lengths)) if lengths else "any number" if empty else "one or more"

    def fits(length: int) -> bool:
        return length in lengths if lengths else empty or length > 0

    return Rule(
        f"a list of {count}, each {rule.expected}",
        lambda values: isinstance(values, list) and fits(len(values)) and all(map(rule.holds, values)),
    )


def _is_run_name(value: str) -> bool:
    path = PurePath(value)
    return not path.is_absolute() and ".." not in path.parts and all(len(part.encode()) <= 200 for part in path.parts)


SHARE, COUNT, ANY_COUNT = between(0, 1), between(1, 10**6), between(0, 10**6)
SIDE, STEPS, STEPS_OR_NONE, CHANNELS = between(1, MAX_SIDE), between(1, MAX_STEPS), between(0, MAX_STEPS), between(1, MAX_CHANNELS)
LAYERS, BATCH, SEED, WEIGHT = between(1, 64), between(1, MAX_BATCH), between(0, MAX_SEED), between(0, 1e6)
TEXT = Rule("a non-empty string without null bytes", lambda value: bool(value) and "\0" not in value)
NOT_NONE = Rule("null for no value (None is read as a string)", lambda value: value != "None")
RUN_NAME = Rule("a name that stays below paths.runs: no '..', no '/' in front, at most 200 bytes per part", _is_run_name)
NAMES = Rule("one or more different names", lambda value: isinstance(value, list) and bool(value) and len(set(value)) == len(value))


#: how an image is divided for prediction
TILES = Rule(
    "auto or WIDTHxHEIGHT in pixels, such as 1024x768", lambda value: bool(re.fullmatch(r"auto|[1-9]\d{1,4}x[1-9]\d{1,4}", str(value)))
)

#: whether an image is turned by its EXIF orientation when it is read
EXIF = one_of("ignore", "apply")

#: kinds of files and folders, for the ``path`` of an option: a command checks that those it reads exist before it starts
WRITTEN, CHECKPOINT, CHECKED_LATER = "output", "checkpoint", "input checked later"


def option(default: Any, meaning: str, rule: Rule | None = None, path: str | None = None) -> Any:
    """A dataclass field that carries what validation and ``--help`` say about it.

    Args:
        default: the value without an override; OmegaConf's ``MISSING`` makes the option mandatory.
        meaning: one line for ``--help``.
        rule: the allowed values; by default any value of the field's type.
        path: for a file or folder, ``WRITTEN``, ``CHECKPOINT``, ``CHECKED_LATER``, or the message if it does not exist. The value is read
            as typed, without Hydra's quoting.
    """
    metadata = {"meaning": meaning, "rule": rule, "path": path}
    if isinstance(default, list):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)
