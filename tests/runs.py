"""Small training runs for tests: the real composition and the real task, on a small generated crowd."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cis_seg.commands.train import train
from cis_seg.config.command_schema import register
from cis_seg.config.commands import start
from cis_seg.config.paths import conf_dir

#: a network and images small enough that a step takes a fraction of a second
SMALL = (
    "model.neck_channels=16",
    "model.head_channels=16",
    "model.mask_branch_channels=8",
    "model.backbone.depth=10",
    "model.backbone.width=16",
    "data.num_train=8",
    "data.num_val=3",
    "data.train_sizes=[96]",
    "data.test_size=96",
    "data.workers=0",
    "optim.batch_size=2",
    "optim.warmup_steps=2",
    "schedule.decay_steps=[]",
    "logger=csv",
    "trainer.log_every_n_steps=1",
    "hydra.mode=RUN",
)


registered = functools.cache(register)


def places(root: Path) -> tuple[str, str]:
    """Overrides for runs in ``root``, a ``tmp_path``, on the crowd in the folder beside it, which all runs of a session share."""
    return f"paths.runs={root}/runs", f"paths.data={root.parent}/crowds"


def composed(*overrides: str, name: str = "config") -> DictConfig:
    """The config as the entry point would see it."""
    registered()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose(name, overrides=[o for o in overrides if not o.startswith("hydra.")])


def small_run(root: Path, *overrides: str, base: Sequence[str] = SMALL) -> Path:
    """Trains in ``root`` and returns the run's folder."""
    cfg = composed(*base, *places(root), *overrides)
    train(cfg)
    return Path(cfg.paths.run)


def exit_code(monkeypatch: pytest.MonkeyPatch, command: str, *overrides: str) -> int:
    """How a command ends on a command line, in this process."""
    monkeypatch.setattr("sys.argv", [command, *overrides])
    try:
        start(command)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def metrics_of(run: Path) -> dict[str, Any]:
    """The run's ``metrics.json``."""
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return metrics


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the run's last checkpoint's network."""
    content = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state
