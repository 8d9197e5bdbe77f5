"""``--help`` of the commands with overrides: complete, true and readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cis_seg.config.command_schema import register
from cis_seg.config.commands import COMMANDS
from cis_seg.config.conf_dir import conf_dir
from cis_seg.config.help import OPTION_LINE, help_text, options
from cis_seg.config.schema import DataConfig

register()
WIDTH = 150  # characters; wider lines wrap in a terminal
CONFIGS = sorted({command.config for command in COMMANDS.values()})


def template_of(config: str) -> str:
    name = "default" if config == "config" else config
    return re.sub(r"^    ", "", (Path(conf_dir()) / "hydra" / f"{name}.yaml").read_text(), flags=re.MULTILINE)


def test_every_command_has_a_config_and_a_help() -> None:
    assert {path.stem for path in Path(conf_dir()).glob("*.yaml")} == set(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_of_the_command_itself_is_explained(config: str) -> None:
    listed = OPTION_LINE.findall(template_of(config))
    known = dict(options(config))
    assert [key for key in listed if key not in known] == []
    assert [key for key in known if "." not in key and key not in listed] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_it_is_readable(config: str) -> None:
    text = help_text(config)
    assert text.splitlines()[0].endswith("."), "the first line says what the command does"
    assert re.search(r"^  python (-m cis_seg\.|scripts/)", text, re.MULTILINE), "an example"
    assert "Exit code" in text or config in ("figure", "export")
    assert max(len(line) for line in text.splitlines() if not line.startswith("  python ")) <= WIDTH
    assert "@" not in text


def test_the_values_are_those_of_the_overrides() -> None:
    text = help_text("config", ["data=coco", "data.root=mine", "optim.lr=0.5", "data.categories=[person,dog]"])
    for line in ("data.root=mine ", "optim.lr=0.5 ", "data.categories=[person,dog] ", "data.test_size=800 ", "init_from=null "):
        assert f"\n{line}" in text
    assert re.search(r"^supervision=box .*\(box or mask\)$", text, re.MULTILINE)
    assert "\ncheckpoint=... " in help_text("predict")


def test_every_option_of_a_data_set_has_a_meaning() -> None:
    meanings = [option.metadata["meaning"] for key, option in options("config") if key.startswith("data.")]
    assert len(meanings) > len(DataConfig.__dataclass_fields__)
    assert all(meanings)
