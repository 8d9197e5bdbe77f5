"""The command line before Hydra parses it: refuse spellings that Hydra cannot read, and expand shorthands to Hydra's grammar."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from cis_seg.config.command_schema import options_of
from cis_seg.config.library_options import TRAINER, arguments_of
from cis_seg.config.option_names import own_name
from cis_seg.config.paths import conf_dir
from cis_seg.errors import ConfigError
from cis_seg.runtime.compat import hydra_flags

FLAGS = functools.cache(hydra_flags)
#: groups that null switches off, and groups that are empty by default
SWITCHED_OFF, OPTIONAL = ("logger", "callbacks"), ("experiment", "sweep", "debug")
#: config -> its groups whose options are the command's own instead of in a node of their own, which Hydra wants to be told
AT_THE_TOP = {"predict": ("inference",)}
NO_CHOICE = re.compile(r"null|true|false|[-+.\d_]+(?:e[-+]?\d+)?|", re.IGNORECASE)


def is_sweep(argv: Sequence[str]) -> bool:
    """Whether the command line asks for a multirun, in which commas separate jobs."""
    return any(_flag(argument) in {"-m", "--multirun"} or argument.lower() == "hydra.mode=multirun" for argument in argv)


def normalised(argv: Sequence[str], config: str) -> list[str]:
    """Return the command line in Hydra's grammar.

    A single value of an option that is a list becomes a list of one. ``logger=null`` and ``callbacks=null`` remove the group;
    ``experiment=null``, ``sweep=null`` and ``debug=null`` are left out, because that is their default. Flags come after the overrides,
    because argparse, with which Hydra reads them, stops reading overrides at a flag between them.

    Args:
        argv: the arguments.
        config: the command's config file, without ``.yaml``.

    Raises:
        ConfigError: an argument is not an override, or a group has no such choice.
    """
    known, lists = _names(config)
    _check_spelling(argv, known)
    sweeping = is_sweep(argv)
    flags = _flags(argv)
    overrides = [argument for place, argument in enumerate(argv) if place not in flags]
    normal = [_as_list(_placed(_group(argument, sweeping), config), lists, sweeping) for argument in overrides]
    kept = [argument for argument, given in zip(normal, overrides, strict=True) if argument or not given]
    return [*kept, *(argv[place] for place in flags)]


def _flags(argv: Sequence[str]) -> list[int]:
    """Return the places of Hydra's flags and of their values."""
    places: list[int] = []
    for place, argument in enumerate(argv):
        if place not in places and argument.startswith("-"):
            places.append(place)
            if _has_value(argument, argv[place + 1 :]):
                places.append(place + 1)
    return places


def _has_value(flag: str, rest: Sequence[str]) -> bool:
    """Whether the argument after ``flag``, if there is one, is its value."""
    name, equals, _ = flag.partition("=")
    values = FLAGS().get(_flag(name) or "", 0)
    return bool(rest) and not equals and (values is None or (values == "?" and "=" not in rest[0]))


def _names(config: str) -> tuple[set[str], set[str]]:
    """Return the names of all options of a command, and of those that are lists."""
    types = {name: str(option.type) for name, option in options_of(config).items()}
    if config == "config":
        groups = {path.name for path in Path(conf_dir()).iterdir() if path.is_dir()}
        groups |= {f"trainer.{name}" for name in arguments_of(TRAINER) or ()}
    else:
        groups = set()
    return types.keys() | groups, {name for name, kind in types.items() if kind.startswith("list")}


def _check_spelling(argv: Sequence[str], known: Collection[str]) -> None:
    """Raise an error for the first argument that is neither a flag of Hydra's nor ``key=value``, ``~key``."""
    given = iter(range(len(argv)))
    for index in given:
        argument, rest = argv[index], argv[index + 1 :]
        key, equals, value = argument.partition("=")
        if argument.startswith("-"):
            if (flag := _flag(key)) is None:
                raise _refusal(argument, "has dashes in front", key.lstrip("-"), value if equals else _next_value(rest), known)
            if flag in {"--cfg", "-c"} and not equals and rest[:1] not in (["job"], ["hydra"], ["all"]):
                raise ConfigError(f"{argument} needs a value", expected="job, hydra or all", remedy=f"{argument} job prints the options")
            if _has_value(argument, rest):
                next(given, None)
        elif not equals and not argument.startswith("~") and argument:
            key, _, value = argument.partition(":")
            raise _refusal(argument, "has no =", key, value or _next_value(rest), known)
        elif equals and not value and (value := _next_value(rest)):
            raise _refusal(argument, "has a space after the =", key, value, known)
        elif value.count("[") > value.count("]") and _next_value(rest):
            whole = " ".join([argument, *rest[: 1 + next((i for i, word in enumerate(rest) if "]" in word), 0)]])
            raise ConfigError(
                f"{argument}: the shell splits this argument at the spaces", expected="one argument", remedy=f'quote it: "{whole}"'
            )


def _flag(name: str) -> str | None:
    """Return Hydra's flag of this name or, as argparse does, the only flag that starts with it; None if it is unknown."""
    beginning = [flag for flag in FLAGS() if name.startswith("--") and flag.startswith(name)]
    return name if name in FLAGS() else beginning[0] if len(beginning) == 1 else None


def _next_value(rest: Sequence[str]) -> str:
    """Return the next argument if it can be the value of the previous one, otherwise an empty text."""
    words = [word for word in rest[:2] if word != "="]
    return words[0] if words and "=" not in words[0] and not words[0].startswith(("-", "~", "+")) else ""


def _refusal(argument: str, problem: str, key: str, value: str, known: Collection[str]) -> ConfigError:
    if key in {"help", "hepl", "elp"}:
        return ConfigError(f"{argument} {problem}", expected="--help", remedy="--help prints the options")
    name, note = own_name(key, known)
    remedy = "pass every option as key=VALUE; --help lists them"
    if name in known:
        remedy = f"write {name}={'VALUE' if note or not value else value}{f' ({note})' if note else ''}"
    if key.endswith((".yaml", ".yml")) or key.startswith("config"):
        remedy = "choose a file in conf/experiment with experiment=NAME; --config-dir DIR adds the files in DIR/experiment"
    return ConfigError(f"{argument} {problem}", expected="key=value", remedy=remedy)


def _group(argument: str, sweeping: bool) -> str:
    """Return the override of a config group as Hydra accepts it; empty if it only repeats the default."""
    key, equals, value = argument.partition("=")
    group = key.lstrip("+~")
    folder = Path(conf_dir()) / group
    deleted = key.startswith("~")
    if not (equals or deleted) or not re.fullmatch(r"\w+", group) or not folder.is_dir():
        return argument
    if deleted and group in OPTIONAL + SWITCHED_OFF:
        return argument if group in SWITCHED_OFF else ""
    if deleted:
        raise ConfigError(f"{argument}: this group cannot be deleted", expected=f"one of {_choices(folder)}", remedy=f"set {group}=CHOICE")
    if value.lower() == "null" and group in OPTIONAL + SWITCHED_OFF:
        return f"~{group}" if group in SWITCHED_OFF else ""
    if any(NO_CHOICE.fullmatch(choice) for choice in (value.split(",") if sweeping else [value])):
        raise ConfigError(f"{argument}: there is no such choice", expected=f"one of {_choices(folder)}", remedy=f"set {group}=CHOICE")
    return argument


def _placed(argument: str, config: str) -> str:
    """Return the override of a group in ``AT_THE_TOP`` with its place, as in ``inference@_global_=best``."""
    key, equals, value = argument.partition("=")
    return f"{key}@_global_={value}" if equals and key in AT_THE_TOP.get(config, ()) else argument


def _choices(folder: Path) -> str:
    return ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))


def _as_list(argument: str, lists: Collection[str], sweeping: bool) -> str:
    """Return the override of a list, with brackets around a single value."""
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in lists or not value or re.match(r"[\[(]|\$\{|\w+\(|(?:null|None)$", value):
        return argument
    if "," not in value or value[0] in "'\"":
        return f"{key}=[{value}]"
    if sweeping:
        return f"{key}={','.join(f'[{single}]' for single in value.split(','))}"
    raise ConfigError(f"{argument}: a list needs square brackets", expected="one value, or a list", remedy=f'write "{key}=[{value}]"')


def quote_letters(argument: str) -> str:
    """Return the override with quotes around every text with non-ASCII letters, which Hydra's grammar does not accept."""
    key, equals, value = argument.partition("=")
    if value.isascii() or re.search(r"['\"]|\$\{", value):
        return argument

    def quoted(match: re.Match[str]) -> str:
        letters = any(character.isalpha() and not character.isascii() for character in match[0])
        return f"'{match[0].strip()}'" if letters else match[0]

    return key + equals + re.sub(r"[^\[\]{},]+", quoted, value)
