"""``--help`` of the commands with overrides: complete, true and readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cis_seg.config.command_schema import COMMANDS, Command, options, register
from cis_seg.config.commands import OPTION_LINE, help_text
from cis_seg.config.paths import conf_dir
from cis_seg.config.schema import DataConfig

register()
WIDTH = 150  # characters; wider lines wrap in a terminal
TRAIN, PREDICT = COMMANDS["train"], COMMANDS["predict"]
each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def listed_options(command: Command) -> list[str]:
    text = (Path(conf_dir()) / f"{command.config}.yaml").read_text()
    return OPTION_LINE.findall(re.sub(r"^ +", "", text, flags=re.MULTILINE))


def test_every_command_has_a_config_and_a_help() -> None:
    assert {path.stem for path in Path(conf_dir()).glob("*.yaml")} == {command.config for command in COMMANDS.values()}


@each_command
def test_every_option_of_the_command_itself_is_explained(command: Command) -> None:
    listed = listed_options(command)
    known = dict(options(command))
    assert [key for key in listed if key not in known] == []
    assert [key for key in known if "." not in key and key not in listed] == []


@each_command
def test_help_has_summary_example_and_exit_codes(command: Command) -> None:
    text = help_text(command)
    assert text.splitlines()[0].endswith("."), "the first line says what the command does"
    assert re.search(r"^  python (-m cis_seg\.|scripts/)", text, re.MULTILINE), "an example"
    assert "Exit code" in text or command.config in ("figure", "export")
    assert max(len(line) for line in text.splitlines() if not line.startswith("  python ")) <= WIDTH
    assert "@" not in text


def test_help_shows_the_values_of_the_overrides() -> None:
    text = help_text(TRAIN, ["data=coco", "data.root=mine", "optim.lr=0.5", "data.categories=[person,dog]"])
    for line in ("data.root=mine ", "optim.lr=0.5 ", "data.categories=[person,dog] ", "data.test_size=800 ", "init_from=null "):
        assert f"\n{line}" in text
    assert re.search(r"^supervision=box .*\(box or mask or mixed\)$", text, re.MULTILINE)
    assert "\ncheckpoint=... " in help_text(PREDICT)


def test_every_option_of_a_data_set_has_a_meaning() -> None:
    meanings = [option.metadata["meaning"] for key, option in options(TRAIN) if key.startswith("data.")]
    assert len(meanings) > len(DataConfig.__dataclass_fields__)
    assert all(meanings)
