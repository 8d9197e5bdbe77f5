"""Every training command of docs/distributed.md composes, and its batch divides among its processes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cis_seg.config.plain import to_dataclass
from cis_seg.config.validation import conflicts
from runs import composed

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "distributed.md").read_text().replace("\\\n", " ")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if "cis_seg.train" in line]


def test_page_has_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_the_page_do_not_conflict(command: str) -> None:
    words = shlex.split(command)
    overrides = [word for word in words[words.index("cis_seg.train") + 1 :] if word != "-m" and not word.startswith("hydra")]
    cfg = composed(*[word.replace("seed=0,1,2", "seed=0") for word in overrides])
    assert [conflict.key for conflict in conflicts(to_dataclass(cfg))] == []
    assert "experiment" not in command or "data.root=" in command
