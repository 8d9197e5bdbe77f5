"""Paths arrive as typed, and a user's mistake becomes one message and exit code 2: through Hydra itself, on a small application."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from cis_seg.config import cli
from cis_seg.config.cli import prepared, quote_path_overrides
from cis_seg.config.command_schema import COMMANDS, options
from cis_seg.config.messages import explain
from cis_seg.errors import ConfigError, DataError

SOURCE = Path(__file__).resolve().parents[2] / "src"
HOME = Path.home()

NASTY = [
    "a,b.odgt",
    "epoch=3-step=100.ckpt",
    "my runs/last one.ckpt",
    "[0-9]*.jpg",
    "{a,b}/x",
    "run(1)/best.ckpt",
    "data~old",
    "C:\\people\\",
    "back\\'slash\\\\",
    'it\'s "here"',
    "'a' and 'b'",
    "crowd/Bücher/人群.json",
    "1_000",
    "1e3",
    "007",
    "100%, #1; $HOME & more!",
    " leading and trailing ",
    "-m",
    "a:b",
    "nan",
]


PATHS = {name for command in COMMANDS.values() for name, option in options(command) if option.metadata["path"]}


def quoted(*argv: str) -> list[str]:
    """The command line with the path options of all commands quoted."""
    return quote_path_overrides(list(argv), PATHS)


def parsed(argument: str) -> object:
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize("path", NASTY)
@pytest.mark.parametrize("key", ["checkpoint", "+input", "++output", "data.root", "data.val_annotations", "paths.runs", "resume"])
def test_a_path_arrives_as_typed(key: str, path: str) -> None:
    (argument,) = quoted(f"{key}={path}")
    assert parsed(argument) == path
    assert quoted(argument) == [argument]  # a second entry point (a launcher's) sees it quoted


@given(st.text(min_size=1).filter(lambda text: text.lower() not in {"null", "true", "false"} and text[0] not in "~'\""))
def test_any_path_arrives_as_typed(path: str) -> None:
    assert parsed(quoted(f"input={path}")[0]) == path


def test_the_home_directory_is_expanded() -> None:
    assert parsed(quoted("data.root=~/crowd, human")[0]) == f"{HOME}/crowd, human"
    assert parsed(quoted("data.root=crowd/~x")[0]) == "crowd/~x"


@pytest.mark.parametrize(
    "argument",
    [
        "resume=true",
        "init_from=null",
        "init_from=",
        "checkpoint='a,b'",
        'checkpoint="it\'s, mine"',
        "loss.weights.overlap=0,1",
        "data.categories=[person,dog]",
        "data.train_sizes=[480,512]",
        "data=coco",
        "name=a,b",
        "--config-dir=a,b",
        "-m",
    ],
)
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quoted(argument) == [argument]


def test_path_options_come_from_the_schema_of_the_command() -> None:
    assert prepared(["images=[7,8]", "output=1_0"], "figure") == ["images=[7,8]", "output='1_0'"]
    assert prepared(["images=[7,8]", "pages=1_0"], "masks_from_boxes") == ["images='[7,8]'", "pages=1_0"]


@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"], ["--config-dir=mine"], ["--config-dir", "mine", "--multirun"], ["--info"]])
def test_flags_may_stand_between_overrides(flags: list[str]) -> None:
    assert prepared(["debug=fast", *flags, "seed=1"], "config") == ["debug=fast", "seed=1", *flags]


def test_interpolation_survives_quoting() -> None:
    assert parsed(quoted("init_from=${paths.runs}/a=1, b/last.ckpt")[0]) == "${paths.runs}/a=1, b/last.ckpt"


@pytest.mark.parametrize("flag", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_a_comma_in_a_multirun(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One path where such a file exists, else a sweep whose elements are quoted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.ckpt").touch()
    assert quoted(flag, "init_from=a,b.ckpt")[1] == "init_from='a,b.ckpt'"
    assert quoted(flag, "input=a,?.ckpt")[1] == "input='a,?.ckpt'"
    assert quoted(flag, "init_from=x=1.ckpt,null,y=2.ckpt")[1] == "init_from='x=1.ckpt',null,'y=2.ckpt'"
    for grammar in ("init_from='a,c','b,c'", "init_from=choice(a,b)"):
        assert quoted(flag, grammar)[1] == grammar


APP = """
import sys
from dataclasses import dataclass, field
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
import cis_seg.config.cli as cli
from cis_seg.errors import DataError
if "fail=log" in sys.argv:
    import lightning  # for its handlers, as an entry point does
    from lightning.pytorch.utilities.rank_zero import rank_zero_info

@dataclass
class Weights:
    proj: float = 1.0
    pairwise: float = 1.0

@dataclass
class Optim:
    lr: float = 0.1

@dataclass
class Model:
    channels: int = 8

@dataclass
class Config:
    weights: Weights = field(default_factory=Weights)
    optim: Optim = field(default_factory=Optim)
    model: Model = field(default_factory=Model)
    init_from: str | None = None
    fail: str = ""

def task(cfg):
    if cfg.fail == "user":
        raise DataError("annotation 17 has a negative width", where="a.json", remedy="mend it")
    if cfg.fail == "bug":
        raise ZeroDivisionError("a bug")
    if cfg.fail == "interrupt":
        raise KeyboardInterrupt
    if cfg.fail == "lightning":
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    if cfg.fail == "sleep":
        import time
        print("ready", flush=True)
        time.sleep(60)
    if cfg.fail == "log":
        rank_zero_info("said once")
    import hydra, json, os
    job = hydra.core.hydra_config.HydraConfig.get().job.name
    print(json.dumps([OmegaConf.to_container(cfg), job, os.environ.get("HYDRA_FULL_ERROR")]))

if __name__ == "__main__":
    ConfigStore.instance().store("small_schema", Config)
    conf = sys.argv.pop(1)
    cli.conf_dir = lambda: conf
    cli.run_hydra(task)
"""

CONF = {
    "config.yaml": "defaults: [small_schema, {model: tiny}, _self_, {experiment: null}]\n"
    "hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: .}}\n",
    "model/tiny.yaml": "channels: 4\n",
    "model/big.yaml": "channels: 64\n",
    "model/typo.yaml": "chanels: 64\n",
    "experiment/one.yaml": "# @package _global_\nweights: {proj: 3}\n",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("app")
    for name, text in {"app.py": APP, **{f"conf/{name}": text for name, text in CONF.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return [str(folder / "app.py"), str(folder / "conf")]


@pytest.fixture(scope="module")
def command(application: list[str]) -> list[str]:
    return [sys.executable, *application]


@pytest.fixture
def run(command: list[str], tmp_path: Path) -> Run:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
        variables |= {"PYTHONPATH": str(SOURCE), **environment}
        return subprocess.run([*command, *arguments], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)

    return run


def test_the_task_gets_the_composed_config(run: Run) -> None:
    done = run("init_from=a,b=[1]/last one.ckpt", "experiment=one", "model=big")
    assert (done.returncode, done.stderr) == (0, "")
    config, job, full_error = json.loads(done.stdout)
    assert config["init_from"] == "a,b=[1]/last one.ckpt"
    assert (config["weights"]["proj"], config["model"]["channels"]) == (3, 64)
    assert job == "app"  # the entry point's name, not cli's
    assert full_error is None  # the task's own processes report for themselves


def test_multirun_sweeps_and_keeps_paths_with_commas(run: Run) -> None:
    done = run("init_from=a=1.ckpt,b=2.ckpt", "-m", "optim.lr=1,2")
    assert done.returncode == 0, done.stderr
    configs = [json.loads(line)[0] for line in done.stdout.splitlines() if line.startswith("[{")]
    assert [(config["init_from"], config["optim"]["lr"]) for config in configs] == [
        ("a=1.ckpt", 1.0),
        ("a=1.ckpt", 2.0),
        ("b=2.ckpt", 1.0),
        ("b=2.ckpt", 2.0),
    ]


@pytest.mark.parametrize(("arguments", "expected"), [(["--cfg", "job", "model=big"], "channels: 64"), (["--help"], "config")])
def test_hydras_own_options_work(run: Run, arguments: list[str], expected: str) -> None:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["weights.projj=1"],
            "error: weights.projj: there is no such option\n  expected: one of pairwise, proj\n  what to do: did you mean weights.proj?\n",
        ),
        (["lr=1"], "what to do: did you mean optim.lr?"),
        (["modle=tiny"], "what to do: did you mean model?"),
        (["experimnt=one"], "what to do: did you mean experiment?"),
        (["hydra.run.dirr=x"], "what to do: did you mean hydra.run.dir?"),
        (["model=byg"], "model=byg: there is no such choice\n  expected: one of big, tiny, typo\n  what to do: did you mean model=big?\n"),
        (["experiment=two"], "error: experiment=two: there is no such choice\n  expected: one of one\n"),
        (["model=typo"], "where: model/typo.yaml"),
        (["model.channels=many"], "error: model.channels: invalid value\n  expected: a whole number, such as 4\n  found: many\n"),
        (["fail=a(b"], "error: the override fail=a(b cannot be read"),
        (["weights"], "error: weights has no =\n  expected: key=value\n"),
        (["fail=user"], "error: annotation 17 has a negative width\n  where: a.json\n  what to do: mend it\n"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_user_error_prints_one_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    application: list[str],
    tmp_path: Path,
    flags: list[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "conf_dir", cli.conf_dir)  # the application sets its own
    monkeypatch.setattr("sys.argv", [*application, *flags, *arguments, "hydra/hydra_logging=none", "hydra/job_logging=none"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(application[0], run_name="__main__")
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) <= 4, text
    assert "Traceback" not in text


def test_the_traceback_on_demand(run: Run) -> None:
    done = run("fail=user", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError: annotation 17" in done.stderr


def test_a_bug_keeps_its_traceback(run: Run) -> None:
    done = run("fail=bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


@pytest.mark.parametrize("fail", ["interrupt", "lightning"])
def test_an_interrupt_is_one_line(run: Run, fail: str) -> None:
    done = run(f"fail={fail}")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_sigint(command: list[str], tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [*command, "fail=sleep"],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it in what it starts in the background
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.slow  # the process imports Lightning
def test_lightning_logs_once(run: Run) -> None:
    done = run("fail=log")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("said once") == 1


class Broken(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        try:
            raise OSError("image file is truncated")
        except OSError as error:
            raise DataError("the image cannot be read", where="a.jpg", found=error, remedy="fetch it again") from error


def test_error_in_a_worker_has_the_same_message() -> None:
    batches: Any = iter(torch.utils.data.DataLoader(Broken(), num_workers=1))
    with pytest.raises(DataError) as raised:
        next(batches)
    batches._shutdown_workers()  # the traceback refers to the iterator
    assert "Traceback" in str(raised.value)  # what torch makes of it
    expected = "the image cannot be read\n  where: a.jpg\n  found: image file is truncated\n  what to do: fetch it again"
    assert explain(raised.value) == expected


def test_presets_of_inference_reach_the_options_of_each_command() -> None:
    assert prepared(["inference=best", "flip=false"], "predict") == ["inference@_global_=best", "flip=false"]
    for config in ("config", "evaluate", "export"):
        assert prepared(["inference=best"], config) == ["inference=best"]
    with pytest.raises(ConfigError, match=r"one of best, reference"):
        prepared(["~inference"], "predict")
