"""The start of a command.

Only the standard library, Hydra and this package's config room are imported until a config is valid: help, a mistyped override, a refused
value and a missing file need no PyTorch.
"""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig

from cis_seg.config.cli import log_lightning_once, prepared, run_hydra, user_errors
from cis_seg.config.command_schema import COMMANDS, register
from cis_seg.config.help import help_text
from cis_seg.config.library_options import hydra_problems
from cis_seg.config.paths import check_paths
from cis_seg.config.sweep import check_run_folders
from cis_seg.config.validation import checked

HELP = {"--help", "-h"}


def start(name: str, app: str | None = None) -> None:
    """Run the command ``name`` on this process's command line.

    Args:
        name: a key of ``COMMANDS``.
        app: how the user has called it, for its ``--help``; None: as its config file states.

    Raises:
        SystemExit: with 2 after a message about a mistake, see ``config.cli.run_hydra``.
    """
    command = COMMANDS[name]

    def task(cfg: DictConfig) -> float | None:
        for problem in hydra_problems(HydraConfig.get()):
            raise problem
        check_paths(checked(cfg))
        if name == "train":
            check_run_folders(sys.argv[1:])
        function = get_method(command.task)
        log_lightning_once()
        result = function(cfg, sys.argv[1:]) if command.takes_arguments else function(cfg)
        return result if isinstance(result, float) else None  # what a sweep maximises

    register()
    if HELP.intersection(sys.argv[1:]):
        with user_errors():
            overrides = prepared([argument for argument in sys.argv[1:] if not argument.startswith("-")], command.config)
            print(help_text(command, overrides, app))
    else:
        run_hydra(task, config_name=command.config)
