"""The start of a command: its ``--help``, the checks of its config and of a sweep, and its run.

Only the standard library, Hydra and this package's config room are imported until a config is valid: help, a mistyped override, a refused
value and a missing file need no PyTorch. Hydra's own help copies every registered schema for every config group, which takes seconds, so
this package prints the text itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cis_seg.config.cli import log_lightning_once, prepared, run_hydra, user_errors
from cis_seg.config.command_schema import COMMANDS, Command, options, register
from cis_seg.config.library_options import hydra_problems
from cis_seg.config.paths import check_paths, conf_dir
from cis_seg.config.validation import checked
from cis_seg.errors import ConfigError

COLUMN = 28  # characters before the meaning of an option
OPTION_LINE = re.compile(r"^@([\w.]+)$", re.MULTILINE)
#: jobs that a message lists
LISTED = 4
HELP = {"--help", "-h"}


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


def check_run_folders(arguments: Sequence[str]) -> None:
    """Compare the run folders of all jobs, if this is the first job of a sweep of training runs.

    Args:
        arguments: the command line in Hydra's grammar.

    Raises:
        ConfigError: jobs have the same folder; all but the first would be refused or report the first one's scores.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN or HydraConfig.get().job.num:
        return
    sweeper = OmegaConf.to_container(HydraConfig.get().sweeper)
    assert isinstance(sweeper, dict)
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = [argument for argument in arguments if "=" in argument or argument.startswith("~")]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    folders: dict[str, list[str]] = defaultdict(list)
    parsed = parser.parse_overrides([*params, *overrides])
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    for job in product(*(list(_values(override)) for override in parsed if not override.get_key_element().startswith("hydra."))):
        cfg = compose(HydraConfig.get().job.config_name, overrides=list(job))
        if _depends_on_job(cfg):
            return
        shown = [word for word in job if word.partition("=")[0] in swept]
        folders[str(cfg.paths.run)].append(" ".join(shown))
    shared = {folder: jobs for folder, jobs in folders.items() if len(jobs) > 1}
    if shared:
        folder, jobs = next(iter(shared.items()))
        more = f"\n    and {len(jobs) - LISTED} more" if len(jobs) > LISTED else ""
        raise ConfigError(
            "jobs of this sweep share a run folder",
            where=folder,
            expected="a folder for each job",
            found="\n    ".join(["", *jobs[:LISTED]]) + more,
            remedy=f"give each job a name of its own: {_distinct_name(swept)}",
        )


def _values(override: Override) -> Iterator[str]:
    """Yield the override once for each of its values; for an interval, of which a sweeper draws values, for its ends."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        yield str(override.input_line)
    elif isinstance(interval := override.value(), IntervalSweep):
        yield from (f"{key}={end}" for end in (interval.start, interval.end))
    else:
        yield from (f"{key}={value}" for value in override.sweep_string_iterator())


def _depends_on_job(cfg: DictConfig) -> bool:
    """Return whether the folder contains the number of the job, as in ``name=trial_${hydra:job.num}``."""
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return any("${hydra:" in str(value) for value in (plain["name"], *plain["paths"].values()))


def _distinct_name(swept: Sequence[str]) -> str:
    options = [key.lstrip("+") for key in swept if "." in key or key == "seed"]
    return f"'name=sweep_{'_'.join(f'${{{option}}}' for option in options)}'" if options else "name=..."


def start(name: str, app: str | None = None) -> None:
    """Run the command ``name`` on this process's command line.

    Args:
        name: a key of ``COMMANDS``.
        app: how the user has called it, for its ``--help``; None: as its config file states.

    Raises:
        SystemExit: with 2 after a message about a mistake, see ``config.cli.run_hydra``.
    """
    command = COMMANDS[name]
    typed = sys.argv[1:]  # before run_hydra brings them into Hydra's grammar

    def task(cfg: DictConfig) -> float | None:
        for problem in hydra_problems(HydraConfig.get()):
            raise problem
        check_paths(checked(cfg))
        if name == "train":
            check_run_folders(sys.argv[1:])
        function = get_method(command.task)
        log_lightning_once()
        result = function(cfg, typed) if command.takes_arguments else function(cfg)
        return result if isinstance(result, float) else None  # what a sweep maximises

    register()
    if HELP.intersection(sys.argv[1:]):
        with user_errors():
            overrides = prepared([argument for argument in sys.argv[1:] if not argument.startswith("-")], command.config)
            print(help_text(command, overrides, app))
    else:
        run_hydra(task, config_name=command.config)
