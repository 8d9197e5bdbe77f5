"""Every command of docs/recipes.md and of the pages about the full data sets is accepted by the program's own parser.

The parser is argparse, or Hydra's composition with the schema. test_readme.py runs the commands of the other pages.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from cis_seg.config.plain import to_dataclass

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "recipes.md"
#: pages whose commands need the full data sets: parsed, not run
PARSED = ("recipes", "data", "evaluation", "reference_checkpoints", "reproducing_the_paper", "test_sets")


def commands(page: Path) -> list[str]:
    """The lines of the shell blocks of ``page``."""
    return [line for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL) for line in block.splitlines()]


COMMANDS = commands(PAGE)
PYTHON = [line for name in PARSED for line in commands(ROOT / "docs" / f"{name}.md") if line.startswith("python ")]
#: W&B's own: held against nothing but the list of its commands
WANDB = ("login", "sync", "sweep")


class Parsed(Exception):
    """The parser took the command; nothing was started."""


def jobs(arguments: list[str]) -> list[list[str]]:
    """The overrides of every run that Hydra's command line makes of ``arguments``."""
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    parsed = [OverridesParser.create().parse_override(override) for override in overrides]
    swept = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] if o.is_sweep_override() else [str(o.input_line)]
        for o in parsed
    ]
    assert len(overrides) == len(arguments) or any(len(values) > 1 or "sweep=" in values[0] for values in swept), "-m without a sweep"
    assert len(overrides) < len(arguments) or all(len(values) == 1 for values in swept), "a comma without -m"
    return [list(job) for job in itertools.product(*swept)]


def check(cfg: DictConfig) -> None:
    """Resolved, with every mandatory key, and of the schema's types."""
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    assert OmegaConf.missing_keys(cfg) == set()
    to_dataclass(cfg)


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points stop when their command line is read."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> None:
        parse(self, *arguments, **options)
        raise Parsed

    def main(*, version_base: str, config_path: str, config_name: str) -> Callable[[object], Callable[[], None]]:
        def run() -> None:
            with initialize_config_dir(config_path, version_base=version_base):
                for job in jobs(sys.argv[1:]):
                    check(compose(config_name, overrides=job, return_hydra_config=True))
            raise Parsed

        return lambda task: run

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_intermixed_args", parse_args)
    monkeypatch.setattr("hydra.main", main)


def start(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    assert words[0] == "python"
    monkeypatch.setattr("sys.argv", [words[1], *words[2:]] if words[1] != "-m" else [words[2], *words[3:]])
    if words[1] == "-m":
        importlib.import_module(words[2]).main()
    else:
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")


def test_page_covers_the_common_tasks() -> None:
    assert len(COMMANDS) >= 25
    needed = (
        "train -m",
        "evaluate predictions=",
        "predict",
        "masks_from_boxes",
        "tables",
        "report",
        "figure4",
        "export_onnx",
        "wandb sync",
    )
    assert [word for word in needed if not any(word in command for command in COMMANDS)] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", list(dict.fromkeys(PYTHON)))
def test_command_is_parsed(command: str, only_parsed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Parsed):
        start(command, monkeypatch)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("python ")])
def test_other_commands_are_wandbs(command: str) -> None:
    program, verb, *files = command.split()
    assert program == "wandb"
    assert verb in WANDB
    assert shutil.which("wandb", path=str(Path(sys.executable).parent)) is not None
    assert all((ROOT / file).is_file() for file in files if file.startswith("scripts/"))


@pytest.mark.parametrize(
    "command",
    [
        "python -m cis_seg.train loss.weights.overlpa=2",
        "python -m cis_seg.train data=coco experiment=nothing",
        "python -m cis_seg.train optim.lr=0.1,0.2",
        "python -m cis_seg.train -m optim.lr=0.1",
        "python -m cis_seg.evaluate optim.lr=0.1",
        "python -m cis_seg.predict input=photos",
        "python scripts/report.py",
        "python scripts/tables.py runs --nothing x",
        "python scripts/nothing.py",
    ],
)
def test_wrong_command_is_detected(command: str, only_parsed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above could not fail."""
    wrong = pytest.raises((SystemExit, AssertionError, FileNotFoundError))
    with wrong:
        start(command, monkeypatch)


def test_links() -> None:
    for link in re.findall(r"\]\((?!https?:)(.*?)\)", PAGE.read_text()):
        assert (PAGE.parent / link).is_file(), link
    for name in re.findall(r"`((?:scripts|notebooks)/[\w.]+)`", PAGE.read_text()):
        assert (ROOT / name).is_file(), name
