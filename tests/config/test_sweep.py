"""A sweep whose jobs share a run folder is refused before its first job trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.train import main


def jobs_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *overrides: str) -> list[str]:
    """The run folders of the jobs that would train."""
    started: list[str] = []
    monkeypatch.setattr("cis_seg.commands.train.train", lambda cfg, arguments: started.append(cfg.paths.run))
    monkeypatch.setattr("sys.argv", ["train", "-m", *overrides, f"paths.runs={tmp_path}", f"hydra.sweep.dir={tmp_path}"])
    main()
    return [str(Path(run).relative_to(tmp_path)) for run in started]


@pytest.mark.parametrize(
    ("overrides", "found", "remedy"),
    [
        (["optim.lr=1,2,3,4,5", "resume=true"], ["optim.lr=1", "optim.lr=4", "and 1 more"], "'name=sweep_${optim.lr}'"),
        (["optim.lr=choice(0.1,0.2)", "seed=0,1"], ["optim.lr=0.1 seed=0", "optim.lr=0.2 seed=0"], "sweep_${optim.lr}_${seed}"),
        (["experiment=crowd_tiny_pretrain,crowd_tiny_finetune", "name=x"], ["experiment=crowd_tiny_finetune"], "name=..."),
    ],
)
def test_jobs_that_share_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], found: list[str], remedy: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        jobs_started(monkeypatch, tmp_path, *overrides)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "jobs of this sweep share a run folder" in message
    assert all(f"    {line}\n" in message for line in found)
    assert remedy in message


@pytest.mark.parametrize(
    ("overrides", "folders"),
    [
        (["seed=0,1", "optim.lr=0.1", "name=x_${optim.lr}"], ["x_0.1/seed0", "x_0.1/seed1"]),
        (["experiment=crowd_tiny_pretrain,crowd_tiny_finetune"], ["crowd_tiny_pretrain/seed0", "crowd_tiny_finetune/seed0"]),
        (["optim.lr=0.1,0.2", "name=job_${hydra:job.num}"], ["job_0/seed0", "job_1/seed0"]),
    ],
)
def test_jobs_with_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: list[str], folders: list[str]) -> None:
    assert sorted(jobs_started(monkeypatch, tmp_path, *overrides)) == sorted(folders)


def test_a_sweep_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nhydra: {sweeper: {params: {supervision: 'box,mask'}}}\n")
    with pytest.raises(SystemExit):
        jobs_started(monkeypatch, tmp_path, "--config-dir", str(tmp_path), "sweep=mine")
    assert "    supervision=mask\n" in capsys.readouterr().err


def test_ends_of_a_search_interval_must_have_different_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the optional dependency cis-seg[sweep] is not installed")
    with pytest.raises(SystemExit):
        jobs_started(monkeypatch, tmp_path, "sweep=optuna_lambda", "name=x", "hydra.sweeper.n_trials=2")
    assert "loss.weights.overlap=4" in capsys.readouterr().err
