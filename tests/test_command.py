"""``cis-seg``: every command has a name, arguments arrive, and a shell gets its suggestions."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from cis_seg.__main__ import ENTRIES, main
from cis_seg.config.command_schema import COMMANDS

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
#: those for the developers of this package
DEVELOPERS = {"benchmark", "faults", "large_crowds", "loading_cost", "onnx_example"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["cis-seg", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_every_command_has_a_name_and_every_script_is_one() -> None:
    targets = {entry.target for entry in ENTRIES.values()}
    assert COMMANDS.keys() <= targets
    assert [target for target in targets - COMMANDS.keys() if find_spec(target.partition(":")[0]) is None] == []
    known = {re.split("[.:]", target)[-1] for target in targets} | {"convert_adelaidet"}  # a part of cis-seg convert
    for path in SCRIPTS.glob("*.py"):
        if path.stem not in DEVELOPERS:
            assert path.stem in known
            statements = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Expr | ast.ImportFrom)]
            assert len(statements) == 1, f"{path}: the code belongs into cis_seg.commands, which the wheel has"


def test_arguments_arrive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(monkeypatch, "tables", str(tmp_path / "nowhere")) == 2
    assert "nowhere" in capsys.readouterr().err
    assert run(monkeypatch, "predict", "checkpoint=nowhere.ckpt", "input=.", "output=out") == 2
    assert "there is no checkpoint nowhere.ckpt" in capsys.readouterr().err
    assert run(monkeypatch, "tables", "--nothing") == 2
    assert "usage: cis-seg tables" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("cis-seg ", "train evaluate predict"),
        ("cis-seg pre", "train evaluate predict"),
        ("cis-seg train experiment=coco_mini_f", "experiment=coco_mini_finetune experiment=coco_mini_finetune_overlap"),
        ("cis-seg evaluate eval.ar", "eval.area="),
        ("cis-seg tables ru", ""),
    ],
)
def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, suggested: str) -> None:
    monkeypatch.setenv("COMP_LINE", typed)
    assert run(monkeypatch, "-sc", "query=bash") == 0
    assert " ".join(capsys.readouterr().out.split()).startswith(suggested)


def test_completion_is_installed_for_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "-sc", "install=bash") == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion cis-seg")
