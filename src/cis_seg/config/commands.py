"""The commands: the config file and the function behind each, and how one starts.

Only the standard library, Hydra and this package's config room are imported until a config is valid: help, a mistyped override, a refused
value and a missing file answer without PyTorch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hydra.utils import get_method
from omegaconf import DictConfig

from cis_seg.config.cli import log_lightning_once, quote_path_overrides, run_hydra, user_errors
from cis_seg.config.command_schema import register
from cis_seg.config.help import help_text
from cis_seg.config.paths import check_paths
from cis_seg.config.validation import checked


@dataclass(frozen=True)
class Command:
    """A command with overrides.

    Args:
        config: its config file, without ``.yaml``.
        task: dotted name of the function that gets the composed config.
        takes_arguments: whether the function also gets the arguments of the command line.
    """

    config: str
    task: str
    takes_arguments: bool = False


HELP = {"--help", "-h"}
COMMANDS = {
    "train": Command("config", "cis_seg.commands.train.train", takes_arguments=True),
    "evaluate": Command("evaluate", "cis_seg.commands.evaluate.evaluate"),
    "predict": Command("predict", "cis_seg.commands.predict.predict_and_exit"),
    "check_dataset": Command("check", "cis_seg.commands.check_dataset.check"),
    "browse": Command("browse", "cis_seg.commands.browse.browse"),
    "masks_from_boxes": Command("masks_from_boxes", "cis_seg.commands.masks_from_boxes.mask_and_exit"),
    "export_onnx": Command("export", "cis_seg.commands.export_onnx.export_onnx"),
    "figure4": Command("figure", "cis_seg.commands.figure4.figure4"),
    "select_crowd_images": Command("select", "cis_seg.commands.select_crowd_images.select_and_report"),
}


def start(name: str) -> None:
    """Run the command ``name`` on this process's command line.

    Raises:
        SystemExit: with 2 after a message about a mistake, see ``config.cli.run_hydra``.
    """
    command = COMMANDS[name]

    def task(cfg: DictConfig) -> float | None:
        check_paths(checked(cfg))
        function = get_method(command.task)
        log_lightning_once()
        result = function(cfg, sys.argv[1:]) if command.takes_arguments else function(cfg)
        return result if isinstance(result, float) else None  # what a sweep maximises

    register()
    if HELP.intersection(sys.argv[1:]):
        overrides = quote_path_overrides([argument for argument in sys.argv[1:] if not argument.startswith("-")])
        with user_errors():
            print(help_text(command.config, overrides))
    else:
        run_hydra(task, config_name=command.config)
