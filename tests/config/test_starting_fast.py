"""Help, and the refusal of a mistake, answer before PyTorch is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cis_seg.__main__ import ENTRIES
from cis_seg.config.command_schema import COMMANDS

HEAVY = ("torch", "torchvision", "lightning", "wandb", "scipy", "matplotlib", "numpy", "pycocotools", "albumentations")
#: runs each command line of a list in one process, as far as the first import of the task
PROBE = """
import contextlib, io, json, sys
from cis_seg.__main__ import main
from cis_seg.config.commands import start
said = []
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv = [name, *arguments]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main() if name == "cis-seg" else start(name)
        except SystemExit as stop:
            print("exit", stop.code)
    said.append(out.getvalue())
print(json.dumps({"said": said, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def probe(lines: list[list[str]], folder: Path) -> tuple[list[str], set[str]]:
    command = [sys.executable, "-c", PROBE, json.dumps(lines)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    return found["said"], set(found["modules"])


def test_help_and_the_config_need_no_heavy_library(tmp_path: Path) -> None:
    said, modules = probe([[name, "--help"] for name in COMMANDS] + [["train", "--cfg", "job"]], tmp_path)
    assert modules.isdisjoint(HEAVY)
    assert all("python " in text for text in said[:-1])
    assert "overlap: 0.0" in said[-1]


def test_user_error_imports_no_heavy_library(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    cases = {
        ("train", "optim.lrr=1"): "did you mean optim.lr?",
        ("train", "optim.lr=-1"): "optim.lr: invalid value",
        ("train", "model.head_norm_groups=3"): "set model.head_norm_groups=2",
        ("train", "+hydra.foo=1"): "hydra.foo: there is no such option",
        ("train", "~optim"): "~optim: this group cannot be deleted\n  expected: one of adamw, sgd",
        ("train", "+callbacks.overlays.typo=1"): "expected: one of draw_threshold, every_n_validations, num_images",
        ("train", "+callbacks.overlay.num_images=1"): "did you mean callbacks.overlays?",
        ("train", "~trainer.precision"): "leave ~trainer.precision out",
        ("train", "experiment=nothing"): "there is no such choice",
        ("train", "init_from=nowhere.ckpt"): "there is no checkpoint nowhere.ckpt",
        ("train", "data=coco", "data.root=nowhere"): "there is no such data folder",
        ("evaluate", "checkpoint=nowhere.ckpt"): "in .: a.ckpt",
        ("evaluate", "predictions=nowhere.json", "data=coco", "data.root=."): "the results file does not exist",
        ("predict", "checkpoint=a.ckpt", "input=nowhere", "output=out"): "input=nowhere",
        ("predict", "input=."): "checkpoint is needed",
        ("masks_from_boxes", "checkpoint=a.ckpt", "boxes=nowhere.json", "images=.", "output=o.json"): "the annotation file does not exist",
        ("masks_from_boxes", "checkpoint=a.ckpt", "boxes=a.ckpt", "images=nowhere", "output=o.json"): "the image folder does not exist",
        ("figure4", "checkpoint=a.ckpt", "other=nowhere.ckpt", "output=out"): "there is no checkpoint nowhere.ckpt",
        ("export_onnx", "checkpoint=nowhere.ckpt", "out=m.onnx"): "there is no checkpoint nowhere.ckpt",
        ("check_dataset", "data=cis", "data.root=nowhere"): "data.root=nowhere",
        ("select_crowd_images", "data.root=nowhere", "output=job"): "data.root=nowhere",
        ("browse", "num_batches=-1"): "num_batches: invalid value",
    }
    said, modules = probe([list(line) for line in cases], tmp_path)
    assert modules.isdisjoint(HEAVY)
    for line, text in zip(cases, said, strict=True):
        assert text.startswith("error: "), line
        assert text.endswith("exit 2\n"), line
        assert cases[line] in text, line


def test_cis_seg_helps_as_the_other_programs_do_and_needs_no_heavy_library(tmp_path: Path) -> None:
    targets = {name: entry.target for name, entry in ENTRIES.items() if entry.target in COMMANDS}
    lines = [["cis-seg", name, "--help"] for name in ENTRIES] + [[target, "--help"] for target in targets.values()]
    said, modules = probe([*lines, ["cis-seg"], ["cis-seg", "predcit"]], tmp_path)
    assert modules.isdisjoint(HEAVY)
    by_name = dict(zip(ENTRIES, said, strict=False))
    for (name, target), text in zip(targets.items(), said[len(ENTRIES) :], strict=False):
        assert re.sub(rf"python (-m cis_seg\.|scripts/){target}(\.py)?\b", f"cis-seg {name}", text) == by_name[name]
    for name in ENTRIES.keys() - targets.keys():
        assert by_name[name].startswith(f"usage: cis-seg {name} [-h]")
    assert all(f"  {name.ljust(12)}{entry.summary}\n" in said[-2] for name, entry in ENTRIES.items())
    assert said[-1].startswith("error: there is no command predcit")
    assert said[-1].endswith("did you mean cis-seg predict?\nexit 2\n")


@pytest.mark.parametrize("name", ["doctor", "replay"])
def test_the_commands_with_argparse(name: str) -> None:
    code = f"import sys; sys.argv = ['x', '--help']\nfrom cis_seg.{name} import main\ntry: main()\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {module.partition(".")[0] for module in done.stdout.split()}.isdisjoint(HEAVY)


def test_the_processes_that_draw_the_crowd() -> None:
    code = "import sys, cis_seg.data.synthetic.files; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {"torch", "torchvision", "lightning", "matplotlib"}.isdisjoint(done.stdout.split())
