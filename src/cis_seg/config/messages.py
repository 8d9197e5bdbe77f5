"""The message for a mistake: a ``UserError``, or an exception of Hydra or OmegaConf in this package's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from cis_seg.config.library_options import trainer_option
from cis_seg.config.option_names import dotted, unknown_option
from cis_seg.config.raw_messages import translated, unreadable
from cis_seg.errors import ConfigError, UserError
from cis_seg.runtime.compat import config_root


def is_mistake(error: BaseException) -> bool:
    """Whether an exception is the user's mistake: ``UserError``, or what Hydra, OmegaConf and its YAML parser raise for a config."""
    known = isinstance(error, UserError | HydraException | OmegaConfBaseException) or type(error).__module__.startswith("yaml.")
    return known or (isinstance(error, ValueError) and str(error).startswith("Config group override must be"))


def explain(error: BaseException) -> str:
    """Return the message for the user: what is wrong, where, what was expected and what to do.

    Args:
        error: a ``UserError`` (also one raised in a DataLoader's worker or in ``hydra.utils.instantiate``), or an exception of Hydra or
            OmegaConf.
    """
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, UserError):
            # a DataLoader raises the worker's traceback as text; the message follows the exception's name at its end
            return re.split(r"^cis_seg\.errors\.\w+: ", str(link), flags=re.MULTILINE)[-1].strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return str(_unknown_choice(error.missing_cfg_file, list(error.options)))
    if isinstance(error, OverrideParseException):
        return str(unreadable(error.override))
    for link in chain:
        if key := _missing_key(link):
            return str(ConfigError(f"{key} is needed", expected="a value", remedy=f"set {key}=..."))
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and link.full_key and link.parent_node is not None:
            return str(_unknown_key(_overridden(chain, str(link.full_key)), config_root(link.parent_node), _file_of(error)))
    if known := translated([(str(link), getattr(link, "full_key", None)) for link in chain], _file_of(error)):
        return str(known)
    lines = [line for link in chain[:2] for line in str(link).splitlines()]
    noise = ("reference_type=", "object_type=", "Config search path", "provider=")
    return "\n".join(dict.fromkeys(line for line in lines if not line.strip().startswith(noise))).strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _overridden(chain: Sequence[BaseException], key: str) -> str:
    """Return the whole name of an unknown option: ``SOLVER.BASE_LR``, although OmegaConf reports only ``SOLVER``."""
    match = re.match(r"Could not override '(\S+)'", str(chain[0]))
    return match[1] if match and match[1].startswith(f"{key}.") else key


def _missing_key(error: BaseException) -> str | None:
    """Return the option without a value, also if another option interpolates it."""
    if isinstance(error, InterpolationToMissingValueError):
        match = re.search(r"Missing mandatory value: (\S+)", str(error))
        return None if match is None else match[1]
    return error.full_key if isinstance(error, MissingMandatoryValue) else None


def _file_of(error: BaseException) -> str | None:
    match = re.match(r"In '([^']+)'", str(error))
    return None if match is None else f"{match[1]}.yaml"


def _unknown_choice(file: str, options: list[str]) -> ConfigError:
    group, _, option = file.rpartition("/")
    choices = [name for name in options if not name.endswith("_schema")]  # the files; a schema is what they extend
    close = difflib.get_close_matches(option, choices, n=1)
    remedy = f"did you mean {group}={close[0]}?" if close else None
    if "/" in group and not group.startswith("hydra/"):  # the choice is a path
        group, _, option = file.partition("/")
        remedy = f"give its name without the folder and without .yaml; --config-dir DIR adds the files in DIR/{group}"
    return ConfigError(f"{group}={option}: there is no such choice", expected=f"one of {', '.join(choices)}", remedy=remedy)


def _unknown_key(key: str, config: DictConfig, file: str | None) -> ConfigError:
    if replaced := trainer_option(key):
        return replaced
    known = [name for name in dotted(OmegaConf.to_container(config)) if name.startswith("hydra.") == key.startswith("hydra.")]
    return unknown_option(key, known, file)
