"""When a run starts processes of its own, what they are told, and whose error is shown."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf.errors import ConfigAttributeError
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from cis_seg.config import plain
from cis_seg.errors import ConfigError, UserError
from cis_seg.training.launch import _environment, _report_first, is_first, processes_to_start, strategy
from runs import composed

ALL = {"cls": 1.0, "box": 1.0, "ctr": 1.0, "mask": 0.0, "proj": 1.0, "pairwise": 1.0, "overlap": 0.0, "teacher": 0.0}
SLURM = {"SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


def trainer(**changes: object) -> dict[str, object]:
    """The trainer's options."""
    return {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"} | changes


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ({}, {}, 0),
        ({"devices": 2}, {}, 2),
        ({"devices": "3", "strategy": "ddp"}, {}, 3),
        ({"devices": 2}, {**TORCHRUN, "WORLD_SIZE": "2"}, 0),
        ({"num_nodes": 2}, {**TORCHRUN, "WORLD_SIZE": "2"}, 0),
        ({"devices": 1, "num_nodes": 2}, {**SLURM, "SLURM_NTASKS": "2"}, 0),
        ({"devices": 2}, {**SLURM, "SLURM_NTASKS": "1"}, 2),  # one task: its processes are ours to start
        ({}, {**SLURM, "SLURM_NTASKS": "1"}, 0),
    ],
)
def test_running_processes_are_not_started_again(
    options: dict[str, object], variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes_to_start(trainer(**options)) == expected


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (
            {},
            {**TORCHRUN, "WORLD_SIZE": "2"},
            r"running processes does not match[\s\S]*2 in total \(the number that torchrun started\)[\s\S]*1 devices x 1 nodes = 1",
        ),
        ({"devices": 2}, {**TORCHRUN, "WORLD_SIZE": "1"}, "omit torchrun"),
        ({}, {**SLURM, "SLURM_NTASKS": "4"}, r"number that SLURM started[\s\S]*docs/distributed\.md"),
        ({"num_nodes": 2}, {}, r"needs a launcher, such as torchrun or SLURM[\s\S]*trainer\.num_nodes"),
        (
            {"accelerator": "cuda", "devices": 99},
            {},
            r"these devices cannot be used[\s\S]*set trainer.accelerator=auto, trainer\.devices=1",
        ),
        ({"accelerator": "mps"}, {}, r"these devices cannot be used[\s\S]*set trainer.accelerator=auto$"),
        ({"devices": [0]}, {}, r"these devices cannot be used[\s\S]*set trainer\.devices=1"),
        ({"strategy": "none"}, {}, r"these devices cannot be used[\s\S]*set trainer\.strategy=auto"),
    ],
)
def test_wrong_number_of_processes_is_rejected(
    options: dict[str, object], variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every process of torchrun would train a run of its own, all into one folder."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        processes_to_start(trainer(**options))


@pytest.mark.parametrize(("variables", "expected"), [({}, True), ({"RANK": "1"}, False), ({"SLURM_PROCID": "2"}, False)])
def test_rank_0_is_first(variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first() is expected
    monkeypatch.setenv("RANK", "0")
    assert is_first(), "within SLURM's tasks, torchrun's rank counts"


def test_unused_parameters_are_searched_only_if_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = [ALL | {"ctr": 0.0}, ALL | {"cls": 0.0}, ALL | {"proj": 0.0, "pairwise": 0.0}]
    assert [strategy(trainer(), weights) for weights in (ALL, *idle)] == ["auto"] * 4
    for name, value in {**TORCHRUN, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert strategy(trainer(), ALL) == "auto"
    assert [strategy(trainer(), weights) for weights in idle] == ["ddp_find_unused_parameters_true"] * 3
    assert strategy(trainer(), ALL | {"proj": 0.0}) == "auto", "the pairwise term trains the masks"
    assert strategy(trainer(strategy="fsdp"), idle[0]) == "fsdp"


@pytest.mark.parametrize(
    "overrides", [("data=crowd",), ("data=crowdhuman", "data.root=x"), ("data=coco", "data.root=x"), ("data=cis", "data.root=x")]
)
def test_config_round_trip_keeps_the_schema(overrides: tuple[str, ...]) -> None:
    cfg = composed(*overrides)
    again = plain.from_plain(json.loads(json.dumps(plain.to_plain(cfg))))
    assert plain.to_plain(again) == plain.to_plain(cfg)
    one, other = plain.to_dataclass(again), plain.to_dataclass(cfg)
    one.logger = other.logger = None  # what it repeats of the schema's groups is plain then
    assert one == other
    assert type(one.data) is type(other.data)
    with pytest.raises(ConfigAttributeError):
        again.loss.weights.overlpa = 1


def test_the_environment_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with _environment(2):
        assert not {"SLURM_NTASKS", "MASTER_PORT", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
        assert os.environ["PATH"] == before["PATH"]
        assert int(os.environ["OMP_NUM_THREADS"]) == max((os.cpu_count() or 1) // 2, 1)
    assert dict(os.environ) == before


def failure(folder: Path, rank: int, exitcode: int, message: str | None = None, timestamp: float = 0.0) -> ProcessFailure:
    """A failed process, with what it recorded."""
    file = folder / f"{rank}.json"
    if message is not None:
        file.write_text(json.dumps({"message": message, "timestamp": timestamp, "exitcode": exitcode}))
    return ProcessFailure(local_rank=rank, pid=1, exitcode=exitcode, error_file=str(file))


def test_the_first_error_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    later = failure(tmp_path, 0, 1, message="Traceback: connection closed", timestamp=now)
    first = failure(tmp_path, 1, 1, message="Traceback: the cause", timestamp=now - 0.4)
    with pytest.raises(SystemExit) as stop:
        _report_first({0: later, 1: first}, 2)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "the cause\nprocess 1 of 2 failed first" in said
    assert "connection closed" not in said


def test_killed_process_is_reported_before_its_consequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = failure(tmp_path, 0, 1, message="Traceback: connection closed", timestamp=time.time())
    told = failure(tmp_path, 2, -signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        _report_first({0: later, 1: failure(tmp_path, 1, -signal.SIGKILL), 2: told}, 3)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: process 1 of 3 was killed")
    assert "SIGKILL" in said
    assert "resume=true" in said


def test_terminated_processes_are_not_reported_as_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cause = failure(tmp_path, 1, 1, message="the cause", timestamp=time.time() + 0.9)
    with pytest.raises(SystemExit):
        _report_first({0: failure(tmp_path, 0, -signal.SIGTERM), 1: cause, 2: failure(tmp_path, 2, 143)}, 3)
    assert "the cause\nprocess 1 of 3" in capsys.readouterr().err


def test_user_error_in_a_process_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^annotation 17 is odd\n  where: here$"):
        _report_first({0: failure(tmp_path, 0, 2, message="annotation 17 is odd\n  where: here", timestamp=1.0)}, 2)


def test_documented_exit_code_is_propagated(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        _report_first({rank: failure(tmp_path, rank, 143) for rank in range(2)}, 2)
    assert stop.value.code == 143
