"""Who may import whom, read off the source with ast; and that importing the package does nothing else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
PACKAGE = SOURCE / "cis_seg"

FOUNDATION = {"structures", "errors", "json_values"}
TENSORS = FOUNDATION | {"ops"}
SCORING = {"metrics", "published", "results", "floors", "ground_truth", "visualize", "exclusive", "pages"}
PARTS = {"data", "model", "assign", "losses", "postprocess", "optim", "checkpoint"}
ENTRIES = {"train", "evaluate", "predict", "check_dataset", "masks_from_boxes", "browse"}

# area (a file or folder of the package) -> the areas it may import beside itself
ARROWS: dict[str, set[str]] = {
    "__init__": set(),
    "structures": set(),
    "errors": set(),
    "json_values": set(),
    "run_names": set(),
    "conf_path": {"errors"},
    "cli": {"errors", "conf_path"},
    "config": FOUNDATION,
    "config_relations": {"config"},
    "config_checks": {"errors", "config", "config_relations", "data", "losses", "model"},
    "config_effects": {"config"},
    "stopping": set(),
    "writing": {"stopping"},
    "csv_log": {"writing"},
    "checkpoint_io": {"checkpoint", "writing"},
    "run_folder": {"errors", "checkpoint", "csv_log", "writing"},
    "resume": {"errors", "checkpoint", "start"},
    "ops": FOUNDATION,
    **dict.fromkeys(PARTS, TENSORS),
    **dict.fromkeys(SCORING, TENSORS | SCORING),
    "module": TENSORS | PARTS | SCORING,
    "callbacks": TENSORS | PARTS | SCORING | {"module", "model_summary", "run_names", "step_file", "writing", "stopping"},
    "model_summary": TENSORS | {"model"},
    "build_model": TENSORS | {"model", "checkpoint", "config"},
    "build": TENSORS | PARTS | SCORING | {"module", "callbacks", "config", "build_model"},
    "inference": TENSORS | {"data", "model", "postprocess", "checkpoint", "config", "build_model"},
    "prediction_files": TENSORS | SCORING | {"data"},
    "benchmark": TENSORS | PARTS | {"module", "config", "build_model"},
    "report": {"errors"},
    "launch": {"errors", "cli", "report"},
    "rank": {"errors", "cli", "config", "train"},
    "tables": {"errors", "config", "report", "ground_truth", "run_names"},
    "submission": {"errors", "ground_truth", "results"},
    "workspace": {"errors", "callbacks", "floors"},
    "adelaidet": TENSORS | {"model", "checkpoint", "config", "build_model", "data"},
    "inspection": TENSORS | SCORING | {"data"},
    "annotation": TENSORS | SCORING | {"data", "inspection"},
    "figures": TENSORS | SCORING,
    "html_report": {"errors", "config", "report", "tables", "ground_truth"},
    "start": TENSORS | {"checkpoint", "config", "conf_path", "build_model", "module", "report"},
    **{
        area: TENSORS
        | PARTS
        | SCORING
        | {"module", "callbacks", "config", "config_checks", "build", "build_model", "report", "start", "launch", "cli", "conf_path"}
        | {"config_effects", "inference", "prediction_files", "inspection"}
        | {"checkpoint_io", "run_folder", "resume", "writing"}
        for area in ENTRIES
    },
    "checkup": TENSORS
    | PARTS
    | {"module", "config", "config_checks", "config_effects", "build", "build_model", "conf_path", "cli"}
    | {"report", "start", "launch", "run_folder"},
    "doctor": {"checkup", "config_checks"},
    "step_file": TENSORS | {"checkpoint", "writing"},
    "replay": TENSORS | PARTS | {"module", "config", "build", "build_model", "inference", "step_file"},
    "select_crowd_images": {"errors", "data", "config", "config_checks", "build", "cli", "annotation", "masks_from_boxes"},
    "onnx_graph": TENSORS | {"data", "model", "postprocess"},
    "export_onnx": TENSORS | {"model", "postprocess", "config", "config_checks", "build", "cli", "inference", "onnx_graph", "writing", ""},
    "figure4": TENSORS | PARTS | SCORING | {"config", "config_checks", "build", "cli", "inference", "figures", "evaluate"},
}
# library -> the modules (with all below them) that may import it
LIBRARIES: dict[str, set[str]] = {
    "hydra": {"config", "build", "cli", "start", "checkup.subject", "checkup.trial", "launch", "rank"} | ENTRIES,
    "omegaconf": {"config", "config_checks", "checkup.subject", "build", "cli", "start", "figure4", "select_crowd_images", "launch", "rank"}
    | {"export_onnx"}
    | ENTRIES,
    "lightning": {
        "module",
        "data.instance_datamodule",
        "callbacks",
        "build",
        "checkpoint",
        "checkpoint_io",
        "csv_log",
        "launch",
        "checkup.trial",
    }
    | ENTRIES,
    "wandb": {"callbacks", "build", "workspace"} | ENTRIES,
    "wandb_workspaces": {"workspace"},
    "onnx": {"export_onnx"},
    "onnxruntime": {"export_onnx"},
    "albumentations": {"data.transforms"},
    "matplotlib": {"tables.lambda_plot", "inspection.plots", "figures.page", "benchmark.loads_table"},
}


def module_name(path: Path) -> str:
    """``src/cis_seg/ops/color.py`` -> ``ops.color``; a package's ``__init__.py`` is named like its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str) -> set[str]:
    """Full names of everything that is imported anywhere in ``source``, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def own_modules(source: str) -> set[str]:
    """The modules of cis_seg that ``source`` imports, without the package's name."""
    names = {name.removeprefix("cis_seg.") for name in imports(source) if name.startswith("cis_seg.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def libraries(source: str) -> set[str]:
    """Top-level names of the third-party packages that ``source`` imports."""
    return {name.split(".")[0] for name in imports(source)} - set(sys.stdlib_module_names) - {"cis_seg"}


def violations(module: str, source: str) -> list[str]:
    """Every import of ``module`` that the arrows forbid, in words."""
    area = module.split(".")[0]
    if area not in ARROWS:
        return [f"{area} is new: add it to ARROWS with what it may import"]
    found = [f"{module}: write the relative import {name} out" for name in imports(source) if name.startswith(".")]
    found += [f"{module} imports {name}" for name in own_modules(source) if name.split(".")[0] not in ARROWS[area] | {area}]
    for library in libraries(source) & LIBRARIES.keys():
        if not any(f"{module}.".startswith(f"{allowed}.") for allowed in LIBRARIES[library]):
            found.append(f"{module} imports {library}")
    return sorted(found)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    assert violations(module, MODULES[module]) == []


def test_no_import_cycles() -> None:
    order = TopologicalSorter({module: own_modules(source) - {module} for module, source in MODULES.items()}).static_order()
    assert set(order) >= set(MODULES)  # static_order raises CycleError, naming the cycle


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("losses.") and name != "losses.criterion"])
def test_a_loss_needs_nothing_but_torch(module: str) -> None:
    """Neither itself nor through what it imports, so that another framework's training loop can use it."""
    reached, queue = set(), [module]
    while queue:
        reached.add(name := queue.pop())
        queue += own_modules(MODULES[name]) - reached
    assert set().union(*(libraries(MODULES[name]) for name in reached)) <= {"torch", "torchvision"}
    assert {name.split(".")[0] for name in reached} <= {"losses", *TENSORS}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("ops.color", "import numpy\nfrom cis_seg.errors import DataError", []),
        ("ops.color", "def f():\n    from cis_seg.model import fpn", ["ops.color imports model.fpn"]),
        ("losses.pairwise", "import cis_seg.model.fpn", ["losses.pairwise imports model.fpn"]),
        ("model.fpn", "from cis_seg import losses", ["model.fpn imports losses"]),
        ("errors", "from cis_seg.structures import Target", ["errors imports structures"]),
        ("data.coco", "import lightning as L", ["data.coco imports lightning"]),
        ("data.instance_datamodule", "from lightning import LightningDataModule", []),
        ("callbacks.overlays", "import wandb", []),
        ("module", "from omegaconf import DictConfig", ["module imports omegaconf"]),
        ("ops.color", "from . import boxes", ["ops.color: write the relative import ..boxes out"]),
        ("helpers", "", ["helpers is new: add it to ARROWS with what it may import"]),
    ],
)
def test_the_check_sees(module: str, source: str, expected: list[str]) -> None:
    assert violations(module, source) == expected


IMPORT_EVERYTHING = """
import importlib, json, pkgutil, socket
asked = []
def refuse(*args, **kwargs):
    asked.append(repr(args))
    raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = socket.socket.connect_ex = refuse
import cis_seg
names = [info.name for info in pkgutil.walk_packages(cis_seg.__path__, "cis_seg.") if not info.name.startswith("cis_seg.conf.")]
for name in names:
    importlib.import_module(name)
from cis_seg.data.transforms import TrainTransform
TrainTransform(sizes=[32], max_size=64, photometric="strong")  # imports albumentations, which asks a server for its version
import albumentations
print(json.dumps({"modules": names, "asked": asked}))
"""


def test_importing_prints_nothing_and_opens_no_connection(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)
    command = [sys.executable, "-W", "error::DeprecationWarning:cis_seg", "-c", IMPORT_EVERYTHING]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # nothing but our own line
    assert report["asked"] == []
    assert {f"cis_seg.{name}" for name in MODULES if name != "__init__"} <= set(report["modules"])
    assert not list(tmp_path.iterdir())
