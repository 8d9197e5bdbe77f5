"""The doctor's findings for a valid run and for broken ones: what is wrong, and what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from cis_seg import doctor
from cis_seg.diagnostics import machine, resources
from cis_seg.diagnostics.findings import Finding, Line, Status, findings_of, ok
from cis_seg.diagnostics.subject import Subject
from cis_seg.diagnostics.trial import duration, full_size_steps
from cis_seg.errors import DataError
from cis_seg.training.initial_weights import load_start
from runs import SMALL
from small_coco import coco_folder

Usage = namedtuple("Usage", "total used free")
NETWORK = tuple(option for option in SMALL if option.startswith(("model.", "optim.", "schedule.", "data.train_sizes", "data.test_size")))


def report(*overrides: str, trial: bool = False) -> dict[str, list[Finding]]:
    """The findings of each check."""
    found: dict[str, list[Finding]] = {}
    for finding in doctor.examine(overrides, trial=trial):
        found.setdefault(finding.check, []).append(finding)
    return found


def worst(findings: list[Finding]) -> Finding:
    return max(findings, key=lambda finding: list(Status).index(finding.status))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def untimed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and precisions of equal speed without measuring them."""
    monkeypatch.setattr(resources, "convolution_seconds", lambda device, dtype, size: 1.0)
    return home


def test_trial_estimates_time_and_memory(untimed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The crowd does not exist yet, so the trial generates a small one in a temporary folder."""
    options = [*(o for o in SMALL if not o.startswith("hydra")), "schedule.max_steps=400", "schedule.val_every=100", "logger=wandb"]
    code = doctor.main([*options, "--json", "report.json"])
    said, content = capsys.readouterr().out, json.loads(Path("report.json").read_text())
    assert code == 0, said
    assert content["problems"] == 0
    assert [f["found"] for f in content["findings"] if f["status"] != "ok" and f["check"] not in ("processors", "GPUs")] == []
    trial = [f["found"] for f in content["findings"] if f["check"] == "trial"]
    assert "s per step of 2 images" in trial[0]
    assert "images/s" in trial[0]
    assert trial[1].startswith("loss ")
    assert "peak memory" in trial[1]
    assert trial[2].startswith("400 steps in about ")
    assert "4 validations of 3 images" in trial[2]
    assert all(f["check"] in said for f in content["findings"])
    assert sorted(path.name for path in untimed.iterdir()) == ["report.json"], "the run's own folder is not created"


def test_trial_on_a_coco_data_set(home: Path) -> None:
    found = report("data=coco", f"data.root={coco_folder(home / 'coco')}", "data.workers=1", *NETWORK, trial=True)
    texts = [finding.found for finding in found["data"]]
    assert "classes: person, car" in texts[0]
    assert "training: 2 images, 2 annotations" in texts[1]
    assert "2 opened" in texts[2]
    assert "128x96 to 128x96 pixels" in texts[2]
    assert "workers share about" in found["sharing"][0].found
    assert worst(found["trial"]).status != Status.PROBLEM


@pytest.mark.parametrize(
    ("overrides", "check", "words", "remedy"),
    [
        (["optim.lrr=1"], "configuration", "optim.lrr: there is no such option", "did you mean optim.lr?"),
        (["modle=condinst_tiny"], "configuration", "modle", "did you mean model?"),
        (["experiment=coco_minny"], "configuration", "there is no such choice", "coco_mini"),
        (["optim.lr=fast"], "configuration", "expected: a number, such as 0.5 or 1e-3", "set optim.lr=NUMBER"),
        (["optim.lr=nan"], "configuration", "optim.lr: invalid value", "optim.lr=0.01"),
        (["optim.batch_size=6", "optim.accumulate=4"], "configuration", "equal parts", "optim.batch_size=8"),
        (["loss.overlap.reduction=masks"], "configuration", "loss.overlap.reduction has no effect", "leave the option out"),
        (["data.half_size_steps=2000"], "configuration", "half_size_steps=2000: no image of its full size", "depends on"),
        (["schedule.max_steps=50"], "configuration", "decay_steps 1600, 1900 are after the last step", "depends on"),
        (["data=coco"], "configuration", "data.root is needed", "data.root="),
        (["data=coco", "data.root=/nowhere"], "data", "there is no such data folder", "set data.root"),
        (["data.root=/nowhere/crowd"], "data", "there is no such data folder", "mkdir -p"),
        (["init_from=/nowhere/last.ckpt"], "weights", "there is no checkpoint", "check the path"),
        (["experiment=cis_r50_fpn_finetune", "data.root=."], "weights", "does not exist", "experiment=cis_r50_fpn_pretrain"),
        (["model.backbone.weights=/nowhere/r.pth"], "weights", "there is no checkpoint", "check the path"),
        (["model=condinst_r50_fpn"], "weights", "resnet50-0676ba61.pth does not exist", "without internet access, copy"),
        (["model=condinst_mobilenet_v2"], "weights", "mobilenet_v2-b0353104.pth does not exist", "without internet access, copy"),
        (
            ["model=condinst_mobilenet_v2", "model.backbone.depth=18"],
            "configuration",
            "backbone.depth has no effect",
            "leave the option out",
        ),
        (["paths.runs=/proc/runs"], "disk", "/proc cannot be written", "set paths.runs"),
        (["trainer.accelerator=gpu"], "devices", "these devices cannot be used", "set trainer.accelerator=auto"),
        (["trainer.precision=16-mixed"], "devices", "becomes bf16 on a CPU", "trainer.precision=32-true"),
        (["trainer.precision=bf16-true"], "configuration", "trainer.precision: invalid value", "set trainer.precision=bf16-mixed"),
    ],
)
def test_problem_and_remedy_are_reported(
    untimed: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], check: str, words: str, remedy: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(untimed))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = report(*overrides)
    assert any(words in f.found and remedy in f.remedy and f.status != Status.OK for f in found[check]), found[check]
    assert {"Python", "libraries", "processors"} <= found.keys(), "the other checks still report"


@pytest.mark.parametrize(("known", "statuses"), [(True, [Status.WARNING, Status.OK]), (False, [Status.OK, Status.WARNING])])
def test_slow_precision_has_one_warning(monkeypatch: pytest.MonkeyPatch, known: bool, statuses: list[Status]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False} if known else {})
    monkeypatch.setattr(resources, "convolution_seconds", lambda device, dtype, size: 50.0 if dtype == torch.bfloat16 else 1.0)
    subject = Subject(["trainer.precision=bf16-mixed"])
    lines = [*machine.check_devices(subject), *resources.check_speed(subject)]
    assert [status for status, *_ in lines] == statuses
    assert [remedy for *_, remedy in lines if remedy] == ["set trainer.precision=32-true"]


@pytest.mark.parametrize(
    ("network", "order"), [("condinst_tiny", "channels_last: faster with 32"), ("condinst_r50_fpn", "contiguous: faster")]
)
def test_order_of_memory_and_its_reason(monkeypatch: pytest.MonkeyPatch, network: str, order: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    ((_, found, _),) = machine.check_memory_format(Subject([f"model={network}"]))
    assert found.startswith(order)
    assert "AVX2 but not AVX-512" in found


def test_existing_run_is_a_problem(untimed: Path) -> None:
    Path("runs/crowd_tiny/seed0").mkdir(parents=True)
    Path("runs/crowd_tiny/seed0/metrics.json").touch()
    assert "exists already" in worst(report()["configuration"]).found
    assert worst(report("resume=true")["configuration"]).status == Status.OK


def test_corrupt_data(untimed: Path) -> None:
    root = coco_folder(untimed / "coco")
    (root / "val2017" / "1.jpg").unlink()
    image = root / "train2017" / "0.jpg"
    image.write_bytes(image.read_bytes()[:400])
    lines = report("data=coco", f"data.root={root}")["data"]
    assert "0.jpg cannot be read as an image" in lines[-1].found
    shutil.copy(root / "train2017" / "1.jpg", image)
    lines = report("data=coco", f"data.root={root}")["data"]
    assert "1 of 2 images to score cannot be used" in lines[-1].found
    assert lines[-1].status == Status.PROBLEM
    (root / "annotations" / "instances_train2017.json").write_text("")
    assert "not valid JSON" in report("data=coco", f"data.root={root}")["data"][-1].found


def test_too_little_disk_and_memory(untimed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - 2**20, 2**20))
    monkeypatch.setattr(resources, "open_file_limit", lambda: 64)
    found = report("data.workers=2", "data.train_sizes=[800]", "data.train_max_size=1333")
    assert [f.status for f in found["disk"]] == [Status.PROBLEM, Status.PROBLEM], "the run, and the crowd"
    assert "1 MB free" in found["disk"][0].found
    assert "--shm-size" in found["sharing"][0].remedy
    assert "ulimit -n" in found["sharing"][1].remedy
    monkeypatch.setattr(machine, "free_memory", lambda: 2**20)
    assert "end other programs" in next(iter(machine.check_processors()))[2]


def test_estimated_size_of_a_run() -> None:
    """The paper's network with AdamW: 34 million numbers three times in each of four checkpoints."""
    subject = Subject(["data=coco", "data.root=.", "model=condinst_r50_fpn", "schedule.val_every=2000", "schedule.max_steps=2000"])
    checkpoints = 4 * 3 * 4 * 34_000_000
    assert checkpoints < resources.run_bytes(subject.typed) < 1.1 * checkpoints


def test_library_versions_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return {"lightning": "2.6.2", "numpy": "1.26"}.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    lines = list(machine.check_libraries())
    wrong = [found for status, found, _ in lines if status == Status.PROBLEM]
    assert any(text.startswith("lightning 2.6.2 is outside its range") for text in wrong), "a malicious release"
    assert any("numpy 1.26" in text for text in wrong)
    assert any("rich is missing" in text for text in wrong)
    assert all("constraints.txt" in remedy for status, _, remedy in lines if status == Status.PROBLEM)


def test_unsupported_python_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "3.14.1 (main)")
    ((status, found, _),) = machine.check_python()
    assert (status, "required" in found) == (Status.PROBLEM, True)


def test_gpu_with_an_old_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").touch()
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.cuda, "init", lambda: (_ for _ in ()).throw(RuntimeError("The NVIDIA driver on your system is too old\nmore"))
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    ((status, found, remedy),) = machine.check_gpus()
    assert (status, "too old" in found, "update the NVIDIA driver" in remedy) == (Status.PROBLEM, True, True)
    monkeypatch.setattr(torch.version, "cuda", None)
    ((status, found, _),) = machine.check_gpus()
    assert "built without CUDA" in found


def test_gpu_not_supported_by_the_torch_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    answers = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "Old",
        "get_device_capability": (5, 0),
        "get_arch_list": ["sm_90"],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer: answer)
    monkeypatch.setattr(torch, "ones", refuse)
    ((status, found, remedy),) = machine.check_gpus()
    assert status == Status.PROBLEM
    assert "GPU 0: Old, capability 5.0: CUDA error: no kernel image" in found
    assert "sm_90" in remedy


def test_exception_in_a_check_becomes_a_finding() -> None:
    def fails() -> Iterator[Line]:
        yield ok("first")
        raise ZeroDivisionError("a bug")

    def refuses() -> Iterator[Line]:
        raise DataError("the file is empty", where="a.json", remedy="write it again")
        yield

    first, second = findings_of("one", fails)
    assert (first.status, second.status) == (Status.OK, Status.PROBLEM)
    assert "ZeroDivisionError: a bug" in second.found
    (refused,) = findings_of("two", refuses)
    assert (refused.found, refused.remedy) == ("the file is empty\n  where: a.json", "write it again")


def test_trial_with_a_diverging_loss(home: Path) -> None:
    """Divergence is reported before the run starts."""
    found = report(*NETWORK, "optim.lr=100", "optim.name=sgd", "optim.clip_norm=null", "optim.warmup_steps=0", trial=True)["trial"]
    assert [f for f in found if "loss" in f.found]


MISSING = """
import sys
for name in {names}:
    sys.modules[name] = None
from cis_seg import doctor
sys.exit(doctor.main([]))
"""


@pytest.mark.parametrize(
    "names",
    [("rich", "torch"), *(pytest.param(names, marks=pytest.mark.slow) for names in (("hydra", "omegaconf"), ("packaging", "lightning")))],
)
def test_missing_libraries_are_reported(home: Path, names: tuple[str, ...]) -> None:
    wide = {**os.environ, "COLUMNS": "200"}  # no line of the table is broken
    done = subprocess.run([sys.executable, "-c", MISSING.format(names=names)], capture_output=True, text=True, env=wide)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the library" in done.stdout
    assert any(name in done.stdout for name in names)
    assert "pip install -e . -c constraints.txt" in " ".join(done.stdout.split())


def test_images_of_half_the_size_take_less_time_and_are_not_tried(home: Path) -> None:
    """The trial measures the memory of images of the full size, which the run reaches later."""
    options = ["schedule.max_steps=100", "data=coco", f"data.root={coco_folder(home / 'coco')}"]
    assert full_size_steps(Subject(options).typed) == 100
    subject = Subject([*options, "data.half_size_steps=40"])
    assert full_size_steps(subject.typed) == 60 + 0.4 * 40
    assert subject.typed.data.half_size_steps == 40
    assert subject.data.train_transform.half_size == 0


def test_duration_format() -> None:
    assert [duration(seconds) for seconds in (5, 90, 600, 5400, 100_000, 260_000)] == [
        "5 s",
        "2 min",
        "10 min",
        "1.5 h",
        "27.8 h",
        "3.0 days",
    ]


def test_trial_downloads_no_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that would be downloaded are not loaded, and the report states it."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr("cis_seg.diagnostics.trial.load_start", lambda *args, **kwargs: pytest.fail(str(load_start)))
    found = report(*NETWORK, "model.backbone.depth=18", "model.backbone.weights=imagenet", "model.backbone.norm=batch", trial=True)["trial"]
    assert "the initial weights are not available yet" in found[1].found
