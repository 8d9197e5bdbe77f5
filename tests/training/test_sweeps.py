"""Many runs from one command, through the real command line: the paper's three stages, lambda on a grid, Optuna, a W&B agent's command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from runs import SMALL, exit_code, metrics_of, places, small_run

REPOSITORY = Path(__file__).resolve().parents[2]
OVERRIDES = [o for o in SMALL if not o.startswith(("hydra.", "logger="))] + [
    "schedule.max_steps=2",
    "schedule.val_every=2",
    "schedule.save_every=2",
]


def run(root: Path, *arguments: str, logger: str = "csv") -> subprocess.CompletedProcess[str]:
    """``python -m cis_seg.train`` in ``root``."""
    command = [
        sys.executable,
        "-m",
        "cis_seg.train",
        *arguments,
        *OVERRIDES,
        *places(root),
        f"logger={logger}",
    ]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base of seed 0."""
    root = tmp_path_factory.mktemp("sweeps")
    small_run(root, "experiment=crowd_tiny_pretrain", *OVERRIDES[-3:])
    return root


@pytest.mark.slow
def test_one_command_runs_base_control_and_overlap_for_each_seed(tmp_path: Path) -> None:
    experiments = "crowd_tiny_pretrain,crowd_tiny_finetune,crowd_tiny_finetune_overlap"
    done = run(tmp_path, "-m", f"experiment={experiments}", "seed=0,1")
    assert done.returncode == 0, done.stderr
    for name in experiments.split(","):
        for seed in (0, 1):
            folder = tmp_path / "runs" / name / f"seed{seed}"
            assert metrics_of(folder)["step"] == 2
            config = yaml.safe_load((folder / "config.yaml").read_text())
            assert config["loss"]["weights"]["overlap"] == (2.0 if name.endswith("overlap") else 0.0)
            assert config["init_from"] == (
                None if "pretrain" in name else f"{tmp_path}/runs/crowd_tiny_pretrain/seed{seed}/checkpoints/last.ckpt"
            )
    curves = (tmp_path / "runs/crowd_tiny_finetune_overlap/seed0").rglob("metrics.csv")
    header = next(curves).read_text().splitlines()[0]
    assert {"train/loss_overlap", "train/overlap_degree", "train/overlap_pairs", "train/overlap_shared"} <= set(header.split(","))
    curves = (tmp_path / "runs/crowd_tiny_finetune/seed0").rglob("metrics.csv")
    assert "overlap" not in next(curves).read_text().splitlines()[0].replace("overlap_mean_degree", "")


@pytest.mark.slow
def test_lambda_on_a_grid(base: Path) -> None:
    name = "name=grid_${loss.weights.overlap}"
    done = run(base, "-m", "experiment=crowd_tiny_finetune_overlap", "loss.weights.overlap=0,0.5,1", name)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (base / "runs").glob("grid_*")) == ["grid_0.0", "grid_0.5", "grid_1.0"]
    assert metrics_of(base / "runs/grid_0.5/seed0")["step"] == 2


@pytest.mark.slow
def test_optuna(base: Path) -> None:
    pytest.importorskip("optuna", reason="the optional dependency cis-seg[sweep] is not installed")
    done = run(base, "-m", "sweep=optuna_lambda", "experiment=crowd_tiny_finetune_overlap", "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    trials = sorted((base / "runs").glob("optuna_lambda_*"))
    tried = [float(trial.name.rpartition("_")[2]) for trial in trials]
    assert len(trials) == 2
    assert all(0.25 <= weight <= 4 for weight in tried)
    assert all(metrics_of(trial / "seed0")["step"] == 2 for trial in trials)
    best = yaml.safe_load((base / "runs" / "optimization_results.yaml").read_text())
    assert best["best_params"]["loss.weights.overlap"] in tried


@pytest.mark.slow
def test_the_command_of_a_wandb_agent(base: Path) -> None:
    """The agent's command as W&B's own functions expand it, without its server; offline in the place of online."""
    sweep = yaml.safe_load((REPOSITORY / "scripts" / "wandb_sweep.yaml").read_text())
    drawn = {key: {"value": spec["values"][1]} for key, spec in sweep["parameters"].items() if key != "seed"}
    words = create_sweep_command_args({"args": drawn}) | {"env": [], "interpreter": [sys.executable], "program": [sweep["program"]]}
    command: list[str] = []
    for word in create_sweep_command(sweep["command"]):
        command += words[word[2:-1]] if re.fullmatch(r"\$\{\w+\}", word) else [word]
    assert command[:3] == [sys.executable, "-m", "cis_seg.train"]
    assert "loss.weights.overlap=0.5" in command
    own = [word.replace("offline=false", "offline=true") for word in command[3:]]
    done = run(base, *own, logger="wandb")
    assert done.returncode == 0, done.stderr
    assert metrics_of(base / "runs/crowd_lambda_0.5/seed0")["step"] == 2
    columns = next((base / "runs/crowd_lambda_0.5/seed0").rglob("metrics.csv")).read_text().splitlines()[0]
    assert sweep["metric"]["name"] in columns.split(",")


def test_missing_base_names_the_command_that_trains_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = (f"paths.runs={tmp_path}/runs", f"paths.data={tmp_path}/data", "logger=csv")
    assert exit_code(monkeypatch, "train", "experiment=crowd_tiny_finetune_overlap", "seed=3", *OVERRIDES, *paths) == 2
    message = capsys.readouterr().err
    assert "python -m cis_seg.train experiment=crowd_tiny_pretrain seed=3" in message
    assert "Traceback" not in message
    assert not (tmp_path / "data").exists(), "refused before a crowd is drawn"
