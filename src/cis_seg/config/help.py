"""``--help``: a handwritten text around option lines that come from the schema.

Hydra's own help copies every registered schema for every config group, which takes seconds, so this package prints the text itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cis_seg.config.command_schema import Command, options
from cis_seg.config.conf_dir import conf_dir

COLUMN = 28  # characters before the meaning of an option
OPTION_LINE = re.compile(r"^@([\w.]+)$", re.MULTILINE)


def help_text(command: Command, overrides: Sequence[str] = (), app: str | None = None) -> str:
    """Return the help of a command.

    The text is ``hydra.help.template`` of the command's file in ``conf/``. A line ``@data.root`` in it becomes the option with its
    value, its meaning and its allowed values.

    Args:
        command: an entry of ``COMMANDS``.
        overrides: as on the command line; the help shows the values that they lead to.
        app: replaces ``hydra.help.app_name`` in the examples.

    Raises:
        HydraException, OmegaConfBaseException: the overrides do not compose.
    """
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose(command.config, overrides=list(overrides), return_hydra_config=True)
    known = dict(options(command))

    def line(match: re.Match[str]) -> str:
        key, option = match[1], known[match[1]]
        rule = option.metadata["rule"]
        allowed = f" ({rule.expected})" if rule is not None and rule.in_help else ""
        return f"{f'{key}={_value(cfg, key)}'.ljust(COLUMN - 2)}  {option.metadata['meaning']}{allowed}"

    text = OPTION_LINE.sub(line, cfg.hydra.help.template)
    return text if app is None else text.replace(cfg.hydra.help.app_name, app)


def _value(cfg: DictConfig, key: str) -> str:
    """Return the value of an option; ``...`` if it is mandatory, ``null`` if the chosen data set does not have it."""
    try:
        return _written(OmegaConf.select(cfg, key, throw_on_missing=True))
    except MissingMandatoryValue:
        return "..."
    except OmegaConfBaseException:  # it refers to an option without a value, or to Hydra, which does not run
        return "(by default a folder of its own)"


def _written(value: Any) -> str:
    """Return ``value`` as it is written in an override."""
    if isinstance(value, ListConfig):
        return f"[{','.join(map(_written, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
