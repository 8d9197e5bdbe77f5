"""``--help`` of the commands with overrides: it names keys that exist, with the defaults that they have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from runs import composed

CONF = Path(__file__).resolve().parents[2] / "conf"
#: config of an entry point -> its help text
HELPS = {
    "config": "default", "evaluate": "evaluate", "predict": "predict", "figure": "figure", "check": "check", "browse": "browse",
    "masks_from_boxes": "masks_from_boxes", "select": "select", "export": "export",
}  # fmt: skip
OPTION = re.compile(r"(?<![\S(])([a-z_]+(?:\.[a-z_]+)*)=(\[[^\]]*\]|[^\s,;:)]+)")
PLAIN = re.compile(r"true|false|null|-?[\d.]+")
WIDTH = 150  # characters; wider lines break in a terminal


def text_of(name: str) -> str:
    text: str = yaml.safe_load((CONF / "hydra" / f"{HELPS[name]}.yaml").read_text())["help"]["template"]
    return text


def options(text: str) -> list[tuple[str, str, bool]]:
    """Every ``key=value`` of the lines that explain one, and whether the value stands there as the default."""
    found = []
    for line in text.splitlines():
        pairs = OPTION.findall(line) if re.match(r" ? ?[a-z_.]+=", line) else []
        found += [(key, value, place == 0 and PLAIN.fullmatch(value) is not None) for place, (key, value) in enumerate(pairs)]
    return found


def test_every_entry_point_has_a_help_of_its_own() -> None:
    named = {re.search(r"^  - hydra: (\w+)", path.read_text(), re.MULTILINE)[1]: path.stem for path in CONF.glob("*.yaml")}  # type: ignore[index]
    assert {config: help_text for help_text, config in named.items()} == HELPS


def dotted(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Every key of a config with its value, groups of keys included."""
    found = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        found |= {f"{prefix}{key}": value, **dotted(value, f"{prefix}{key}.")}
    return found


@pytest.mark.parametrize("name", HELPS)
def test_its_keys_are_there_and_its_defaults_true(name: str) -> None:
    told = options(text_of(name))
    assert len(told) >= 2
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    base = ["data=coco"] if any(key == "data.categories" for key, *_ in told) else []
    known = dotted(OmegaConf.to_container(composed(*base, name=name)))
    for key, value, is_default in told:
        if key in groups:
            assert (CONF / key / f"{value}.yaml").is_file(), f"{key}={value}"
            continue
        assert key in known, key
        assert not is_default or known[key] == yaml.safe_load(value), f"{key}={value}, but the default is {known[key]}"


@pytest.mark.parametrize("name", HELPS)
def test_it_is_readable(name: str) -> None:
    text = text_of(name)
    first = text.splitlines()[0]
    assert first.endswith("."), "the first line says what the command does"
    assert re.search(r"^  python (-m cis_seg\.|scripts/)", text, re.MULTILINE), "an example"
    assert "Exit code" in text or name in ("figure", "export")
    assert max(len(line) for line in text.splitlines() if not line.startswith("  python ")) <= WIDTH
