"""Runs of two processes on this machine: what one computes, one process's end is all's, launchers that others bring.

They train in float64, so that a difference is one of the computation and not of its rounding.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cis_seg.commands.train import train
from faulty import rows_of
from process_faults import left_behind
from runs import SMALL, composed, metrics_of, places, small_run

pytestmark = pytest.mark.slow

TESTS = str(Path(__file__).resolve().parents[1])
PAIR = ("trainer.devices=2", "trainer.accelerator=cpu")
NODES = ("trainer.num_nodes=2", "trainer.accelerator=cpu")
EXACT = ("+callbacks.double._target_=process_faults.Double", "~callbacks.card")
#: an odd number of images to score; drawn sizes, flips, pixels and masks; a teacher whose average is scored
TEACHER = ("loss.weights.teacher=1", "teacher.ramp_steps=0", "teacher.refine=2", "teacher.colors=3", "teacher.momentum=0.6", "ema=0.6")
COMMON = ("optim.batch_size=4", "data.photometric=light", "loss.weights.overlap=1", *TEACHER, *EXACT)
STEPS = ("schedule.max_steps=10", "schedule.val_every=5", "schedule.save_every=5")
FEW = ("schedule.max_steps=3", "schedule.val_every=3", "schedule.save_every=3")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module", autouse=True)
def _environment() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", TESTS)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        yield


@pytest.fixture(scope="module")
def alone(root: Path) -> Path:
    """Ten steps of one process."""
    return small_run(root, "name=alone", *COMMON, *STEPS)


@pytest.fixture(scope="module")
def pair(root: Path, alone: Path) -> Path:
    """The same of two."""
    return small_run(root, "name=pair", *COMMON, *STEPS, *PAIR)


def command(root: Path, *overrides: str) -> list[str]:
    """The command line of a small run."""
    own = [option for option in SMALL if not option.startswith("hydra.")]
    first = [option for option in overrides if option.startswith("-")]  # the parser takes no option after overrides
    overrides = tuple(option for option in overrides if option not in first)
    return ["-m", "cis_seg.train", *first, *own, *places(root), *overrides]


def losses(run: Path, steps: int) -> list[dict[str, float]]:
    """Everything logged of the first training steps, which takes two rows a step."""
    found: list[dict[str, float]] = [{} for _ in range(steps)]
    for row in rows_of(run):
        if int(row["step"]) < steps:
            found[int(row["step"])] |= {key: float(value) for key, value in row.items() if key.startswith("train/")}
    return found


def assert_same_curves(run: Path, other: Path, steps: int) -> None:
    """Every figure of every step, but for the rounding of the few parts that stay in float32."""
    one, two = losses(run, steps), losses(other, steps)
    assert all(len(row) > 8 for row in one)
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_two_processes_train_as_one(alone: Path, pair: Path) -> None:
    """The same images in the same order, the same draws, every normaliser and every norm's statistics over all."""
    assert_same_curves(pair, alone, 10)


def test_every_image_is_scored_once(alone: Path, pair: Path) -> None:
    """Three images in two processes: the scores are those of one process."""
    one, two = metrics_of(alone), metrics_of(pair)
    assert {key for key, value in two.items() if value is None} == {key for key, value in one.items() if value is None}
    assert {k: v for k, v in two.items() if v is not None} == pytest.approx({k: v for k, v in one.items() if v is not None}, rel=1e-4)
    assert two["num_images"] == 3


def test_the_same_checkpoint_is_best(alone: Path, pair: Path) -> None:
    one, two = (torch.load(run / "checkpoints" / "best.ckpt", weights_only=True) for run in (alone, pair))
    assert one["global_step"] == two["global_step"]
    assert one["state_dict"].keys() == two["state_dict"].keys(), "shared norms go by the names of single ones"
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_only_rank_0_writes(alone: Path, pair: Path) -> None:
    """The same files as of one process; of the pictures those of what rank 0 scored (the first of each two) and was taught."""
    files = [{str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()} for run in (alone, pair)]
    taught = [{name for name in own if "overlays/teacher/step" in name} for own in files]
    assert taught[1] == {name for name in taught[0] if "_00_" in name or "_01_" in name}
    assert len(taught[1]) == 4
    assert {name for name in (files[0] - taught[0]) ^ (files[1] - taught[1]) if "overlays/step" not in name} == set()
    assert len(rows_of(pair)) == len(rows_of(alone)), "no row is logged twice"


def test_a_task_returns_what_rank_0_scored(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cfg = composed(*SMALL, *places(root), "name=again", *FEW, *PAIR)
    assert train(cfg) == metrics_of(root / "runs" / "again" / "seed0")["segm/AP"]
    said = capfd.readouterr().err
    assert said.count("mask AP50") == 1
    assert "Warning" not in said
    assert "recommended" not in said


def test_a_killed_process_ends_the_run(root: Path) -> None:
    fault = [f"+callbacks.fault.{key}={value}" for key, value in {"_target_": "process_faults.Fault", "kind": "kill", "step": 2}.items()]
    own = command(root, "name=killed", *FEW, *PAIR, *fault)
    done = subprocess.run([sys.executable, *own], capture_output=True, text=True, cwd=root, env=os.environ | {"MARK": str(root)})
    waited = time.time() - (root / "runs/killed/seed0/touch").stat().st_mtime
    assert done.returncode == 1, done.stderr
    assert done.stderr.rstrip().splitlines()[-3] == "error: process 1 of 2 was killed; the others were stopped"
    assert "Traceback" not in done.stderr
    assert waited < 60
    assert left_behind(f"MARK={root}") == []


def test_a_multirun_of_two_processes(root: Path) -> None:
    own = command(root, "--multirun", "name=first,second", *PAIR, "schedule.max_steps=1", "schedule.val_every=1", "schedule.save_every=1")
    done = subprocess.run([sys.executable, *own], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    for name in ("first", "second"):
        assert metrics_of(root / "runs" / name / "seed0")["step"] == 1
        assert (root / "runs" / name / "seed0" / "config.yaml").read_text().startswith(f"name: {name}")


def together(root: Path, commands: list[list[str]], variables: list[dict[str, str]]) -> None:
    """Runs the commands at the same time, each of which stands for a machine."""
    said = [root / f"said{number}.txt" for number in range(len(commands))]
    started = []
    try:
        for own, more, path in zip(commands, variables, said, strict=True):
            with path.open("w") as stream:
                started.append(subprocess.Popen([sys.executable, *own], cwd=root, env=os.environ | more, stderr=stream))
        assert [process.wait(timeout=600) for process in started] == [0, 0], "\n".join(path.read_text() for path in said)
    finally:
        for process in started:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_two_nodes_of_torchrun(root: Path, alone: Path) -> None:
    port = free_port()
    place = [f"--master-addr=127.0.0.1 --master-port={port} --nnodes=2 --nproc-per-node=1 --node-rank={node}" for node in range(2)]
    own = command(root, "name=nodes", *COMMON, *FEW, *NODES)
    together(root, [["-m", "torch.distributed.run", *where.split(), *own] for where in place], [{}, {}])
    assert_same_curves(root / "runs/nodes/seed0", alone, 3)


def test_two_tasks_of_slurm(root: Path, alone: Path) -> None:
    """What ``srun`` tells its tasks; the rest of SLURM is not here to be tried."""
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "1", "NNODES": "2", "NODELIST": "127.0.0.1"}
    tasks = [job | {"PROCID": str(node), "LOCALID": "0", "NODEID": str(node)} for node in range(2)]
    variables = [
        {f"SLURM_{key}": value for key, value in task.items()} | {"MASTER_PORT": str(port)} for port in [free_port()] for task in tasks
    ]
    together(root, [command(root, "name=tasks", *COMMON, *FEW, *NODES)] * 2, variables)
    assert_same_curves(root / "runs/tasks/seed0", alone, 3)


def test_submitit_on_this_machine(root: Path) -> None:
    pytest.importorskip("submitit", reason="the optional dependency cis-seg[slurm] is not installed")
    own = command(root, "--multirun", "hydra/launcher=submitit_local", "debug=fast", "name=submitted", "seed=0,1")
    done = subprocess.run([sys.executable, *own], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert [metrics_of(root / "runs" / "submitted" / f"seed{seed}")["step"] for seed in (0, 1)] == [5, 5]
