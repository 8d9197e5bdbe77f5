"""Callbacks and loggers that are switched off."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
from omegaconf import DictConfig

from cis_seg.errors import ConfigError
from cis_seg.training.callbacks.wandb_logging.logger import wandb_disabled
from cis_seg.training.trainer import build_callbacks, build_loggers
from runs import SMALL, composed, metrics_of, small_run

STEPS = ("schedule.max_steps=2", "schedule.val_every=1", "schedule.save_every=1")


@pytest.fixture(scope="module")
def small() -> DictConfig:
    """A composed training run."""
    return composed(*SMALL)


def test_a_run_without_callbacks_and_loggers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = small_run(tmp_path, *STEPS, "~callbacks", "~logger", base=[option for option in SMALL if not option.startswith("logger")])
    assert metrics_of(run)["step"] == 2
    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.json", "checkpoints"}
    assert list((run / "checkpoints").iterdir()) == []
    assert "cannot be resumed" in caplog.text
    with pytest.raises(ConfigError, match="no checkpoint to continue from"):
        small_run(tmp_path, *STEPS, "resume=true")


@pytest.mark.parametrize(
    "name", ["overlays", "teacher_overlays", "bad_steps", "best", "progress", "card", "log", "steps", "images", "dashboard"]
)
def test_null_callback_is_skipped(name: str, small: DictConfig, caplog: pytest.LogCaptureFixture) -> None:
    without = copy.deepcopy(small)
    without.callbacks[name] = None
    assert len(build_callbacks(without, [])) == len(build_callbacks(small, [])) - 1
    assert caplog.text == ""


def test_a_run_without_pictures_and_best_checkpoint(tmp_path: Path) -> None:
    off = ("callbacks.overlays=null", "callbacks.best=null", "callbacks.progress=null", "callbacks.bad_steps=null", "logger.csv=null")
    run = small_run(tmp_path, *STEPS, *off)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert not (run / "overlays").exists()
    assert not (run / "csv").exists()


def test_invalid_callback_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.mine is not a callback[\s\S]*found: 5"):
        build_callbacks(composed(*SMALL, "+callbacks.mine=5"), [])


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_wandbs_own_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    cfg = composed(*SMALL, "logger=wandb", f"paths.runs={tmp_path}")
    with caplog.at_level(logging.INFO):
        loggers = build_loggers({"logger": dict(cfg.logger)}, tmp_path, None)
    assert [type(logger).__name__ for logger in loggers] == ["CsvLog"]
    assert f"W&B is off ({name}={value})" in caplog.text
    assert list(tmp_path.rglob("wandb*")) == []


@pytest.mark.parametrize("value", ["", "false", "0"])
def test_wandb_is_not_disabled(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DISABLED", value)
    assert wandb_disabled() is None
