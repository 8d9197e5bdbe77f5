"""The W&B workspace: its definition shows what runs log, becomes W&B's own objects, and is refused offline in words."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cis_seg.errors import ConfigError
from cis_seg.training.callbacks.wandb_logging.workspace import build, create, definition
from cis_seg.training.metrics import (
    CHARTS,
    FINAL,
    PEAK_CUDA,
    PROMISED,
    PROMISED_WITH_OVERLAP,
    PROMISED_WITH_TEACHER,
    RESULTS,
    STEP,
)

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "wandb_workspace.py"


def keys(defined: dict[str, Any]) -> set[str]:
    """Every logged name that some panel shows."""
    panels = [panel for section in defined["sections"] for panel in section["panels"]]
    return {key for panel in panels for key in panel.get("metrics", [panel.get("table")])}


main = runpy.run_path(str(SCRIPT))["main"]


def test_panels_show_what_runs_log() -> None:
    shown = keys(definition("me/mine"))
    assert shown <= {*PROMISED, *PROMISED_WITH_OVERLAP, *PROMISED_WITH_TEACHER, *FINAL, PEAK_CUDA}, "a panel would stay empty"
    assert {RESULTS, *(f"{chart}_table" for chart in CHARTS.values()), *FINAL, *PROMISED_WITH_OVERLAP, *PROMISED_WITH_TEACHER} <= shown


def test_a_dry_run_prints_the_definition(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["me/mine", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out) == definition("me/mine")


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # of wandb-workspaces 0.4
def test_the_definition_becomes_a_workspace() -> None:
    pytest.importorskip("wandb_workspaces", reason="the optional dependency cis-seg[dashboard] is not installed")
    made = build(definition("me/mine"))
    spec = made._to_model().spec.model_dump(by_alias=True, exclude_none=True)["section"]
    (rows,) = spec["runSets"]
    assert [key["name"] for key in rows["grouping"]] == ["group", "jobType"]
    assert [name for name in rows["runFeed"]["columnOrder"] if name.startswith("summary:")] == [f"summary:{key}" for key in FINAL]
    sections = {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}
    assert {panel["config"]["xAxis"] for panel in sections["Losses"]} == {STEP}
    assert sections["Precision over recall"][0]["config"]["panelDefId"] == "wandb/lineseries/v0"
    assert (made.entity, made.project) == ("me", "mine")


def test_rejected_offline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["me/mine"]) == 2
    message = capsys.readouterr().err
    assert "WANDB_MODE=offline" in message
    assert "--dry-run" in message


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ConfigError, match=r"not installed[\s\S]*pip install wandb-workspaces"):
        create(definition("me/mine"))


def test_nobody_is_logged_in(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces", reason="the optional dependency cis-seg[dashboard] is not installed")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment = {**kept, "HOME": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(SCRIPT), "mine"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "wandb login" in done.stderr
    assert "Traceback" not in done.stderr
