"""The message for a mistake: a ``UserError``, or an exception of Hydra or OmegaConf in this package's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationToMissingValueError, MissingMandatoryValue

from cis_seg.config.conf_dir import conf_dir
from cis_seg.errors import ConfigError, UserError
from cis_seg.runtime.compat import config_root


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
        return str(_unreadable(error))
    for link in chain:
        if key := _missing_key(link):
            return str(ConfigError(f"{key} is needed", expected="a value", remedy=f"set {key}=..."))
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError) and link.full_key and link.parent_node is not None:
            return str(_unknown_key(str(link.full_key), config_root(link.parent_node), _file_of(error)))
    lines = [line for link in chain[:2] for line in str(link).splitlines()]
    noise = ("reference_type=", "object_type=", "Config search path", "provider=")
    return "\n".join(dict.fromkeys(line for line in lines if not line.strip().startswith(noise))).strip()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _missing_key(error: BaseException) -> str | None:
    """Return the option without a value, also if another option interpolates it."""
    if isinstance(error, InterpolationToMissingValueError):
        match = re.search(r"Missing mandatory value: (\S+)", str(error))
        return None if match is None else match[1]
    return error.full_key if isinstance(error, MissingMandatoryValue) else None


def _file_of(error: BaseException) -> str | None:
    match = re.match(r"In '([^']+)'", str(error))
    return None if match is None else f"{match[1]}.yaml"


def _unreadable(error: OverrideParseException) -> ConfigError:
    return ConfigError(
        f"the override {error.override} cannot be read",
        expected="key=value",
        found=next((line for line in error.message.splitlines() if not line.startswith("Error parsing")), None),
        remedy="quote a value with special characters for Hydra, and all of it for the shell: \"key='a,b'\"",
    )


def _unknown_choice(file: str, options: list[str]) -> ConfigError:
    group, _, option = file.rpartition("/")
    close = difflib.get_close_matches(option, options, n=1)
    remedy = f"did you mean {group}={close[0]}?" if close else None
    return ConfigError(f"{group}={option}: there is no such choice", expected=f"one of {', '.join(options)}", remedy=remedy)


def _unknown_key(key: str, config: DictConfig, file: str | None) -> ConfigError:
    known = [name for name in _dotted(OmegaConf.to_container(config)) if name.startswith("hydra.") == key.startswith("hydra.")]
    groups = sorted(path.name for path in Path(conf_dir()).iterdir() if path.is_dir())
    parent, _, leaf = key.rpartition(".")
    siblings = sorted(name for name in known if name.rpartition(".")[0] == parent)
    close = difflib.get_close_matches(key, siblings, n=1) + [name for name in known if name.rpartition(".")[2] == leaf]
    close += difflib.get_close_matches(key, known + groups, n=1)
    remedy = f"did you mean {' or '.join(list(dict.fromkeys(close))[:3])}?" if close else None
    expected = f"one of {', '.join(name.rpartition('.')[2] for name in siblings)}" if siblings else None
    return ConfigError(f"{key}: there is no such option", where=file, expected=expected, remedy=remedy)


def _dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield f"{prefix}{key}"
        yield from _dotted(value, f"{prefix}{key}.")
