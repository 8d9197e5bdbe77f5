"""The import rules of the package, checked on the source with ast; and importing it has no side effects."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
PACKAGE = SOURCE / "cis_seg"

#: files and folders of the package, lowest layer first: a module imports its own folder and the layers below, never another of its layer
LAYERS = """
errors
runtime
structures  config
ops  coco  checkpoints
data  model  assign  losses  evaluation  visualization
inference  inspection
training  annotation
build
diagnostics  reports  benchmark
commands
__main__  train  evaluate  predict  doctor  replay
"""
HEIGHT = {area: height for height, line in enumerate(LAYERS.strip().splitlines()) for area in line.split()} | {"__init__": 99, "": -1}
#: library -> the modules and folders that may import it
LIBRARIES = {
    "hydra": "config commands training diagnostics build runtime.compat",
    "omegaconf": "config commands training diagnostics build",
    "lightning": "training data.instance_datamodule diagnostics.trial commands.train",
    "wandb": "training.callbacks.wandb_logging commands.train",
    "wandb_workspaces": "training.callbacks.wandb_logging.workspace",
    "onnx": "commands.export_onnx",
    "onnxruntime": "commands.export_onnx",
    "albumentations": "data.transforms",
    "pycocotools": "coco evaluation.coco_protocol benchmark",
    "matplotlib": "reports inspection.report benchmark.report visualization.fonts",
}


def module_name(path: Path) -> str:
    """Return ``ops.color`` for ``src/cis_seg/ops/color.py``, and the folder's name for an ``__init__.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str) -> set[str]:
    """Return the full names of all imports in ``source``, also those inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def own_modules(source: str) -> set[str]:
    """Return the modules of cis_seg that ``source`` imports, without the package's name."""
    names = {name.removeprefix("cis_seg.") for name in imports(source) if name.startswith("cis_seg.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def libraries(source: str) -> set[str]:
    """Return the top-level names of the third-party packages that ``source`` imports."""
    return {name.split(".")[0] for name in imports(source)} - set(sys.stdlib_module_names) - {"cis_seg"}


def violations(module: str, source: str) -> list[str]:
    """Describe every import of ``module`` that the rules forbid."""
    area = module.split(".")[0]
    if area not in HEIGHT:
        return [f"{area} is new: give it a place in LAYERS"]
    found = [f"{module}: write the relative import {name} out" for name in imports(source) if name.startswith(".")]
    for name in own_modules(source):
        other = name.split(".")[0]
        if other != area and HEIGHT[other] >= HEIGHT[area]:
            found.append(f"{module} imports {name}")
    for library in libraries(source) & LIBRARIES.keys():
        if not any(f"{module}.".startswith(f"{allowed}.") for allowed in LIBRARIES[library].split()):
            found.append(f"{module} imports {library}")
    return sorted(found)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(nodes: list[ast.AST]) -> set[str]:
    """Return the names of functions and of attributes that are annotated in a class or assigned on ``self``."""
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    names |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return names | {node.attr for node in attributes if ast.unparse(node.value) == "self"}


OURS = {name for module, source in MODULES.items() if module != "runtime.compat" for name in defined(list(ast.walk(ast.parse(source))))}


def private_parts(source: str) -> list[str]:
    """List the private names of other libraries that ``source`` imports or reads, as far as the syntax shows.

    On ``self`` a name is ours if the package defines it anywhere, on another object if this file does. ``os._exit`` is public in spite of
    its name.
    """
    nodes = list(ast.walk(ast.parse(source)))
    own = defined(nodes)
    found = [name for name in imports(source) if any(map(is_private, name.split(".")))]
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            holder = ast.unparse(node.value)
            known = own | OURS if holder in ("self", "cls") else own if holder != "super()" else set()
            found += [] if node.attr in known else [ast.unparse(node)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr")]
    found += [ast.unparse(call) for call in calls if isinstance(call.args[1], ast.Constant) and is_private(str(call.args[1].value))]
    return sorted(set(found) - {"os._exit"})


def test_private_parts_of_libraries_are_used_in_one_place() -> None:
    found = {module: parts for module, source in MODULES.items() if (parts := private_parts(source))}
    assert found.pop("runtime.compat")
    assert found == {}


def test_the_search_finds_private_parts() -> None:
    own = "class A(B):\n    x: int\n    def _f(self):\n        self._y = 1\n    def g(self, other):\n        return other._f() + self._y"
    assert private_parts(own) == []
    foreign = {
        "a.b._c = 1": "a.b._c",
        "super()._f()": "super()._f",
        "class A(B):\n    def f(self):\n        return self._theirs": "self._theirs",
        "from torch.nn.modules.batchnorm import _BatchNorm": "torch.nn.modules.batchnorm._BatchNorm",
        "import hydra._internal.utils": "hydra._internal.utils",
        "getattr(a, '_c', None)": "getattr(a, '_c', None)",
    }
    assert {source: private_parts(source) for source in foreign} == {source: [part] for source, part in foreign.items()}


def text_without_encoding(source: str) -> list[str]:
    """List the calls that read or write text without an ``encoding``, which would depend on the platform."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        function, options = ast.unparse(call.func), {option.arg for option in call.keywords}
        name = function.split(".")[-1]
        binary = name == "open" and any(
            isinstance(value, ast.Constant) and re.fullmatch(r"[rwa+]*b\+?", str(value.value)) for value in call.args
        )
        text = name in ("read_text", "write_text", "open") and function not in ("os.open", "Image.open")
        found += [ast.unparse(call)] if text and not binary and "encoding" not in options else []
    return found


def test_text_files_have_an_encoding() -> None:
    assert text_without_encoding("a.b().read_text()\nopen(c)\nd.open('rb')\ne.write_text(f, encoding='utf-8')") == [
        "a.b().read_text()",
        "open(c)",
    ]
    files = [*PACKAGE.rglob("*.py"), *(SOURCE.parent / "scripts").rglob("*.py")]
    found = {str(path): calls for path in files if (calls := text_without_encoding(path.read_text(encoding="utf-8")))}
    assert found == {}


def test_modules_import_only_lower_layers() -> None:
    assert [line for module, source in MODULES.items() for line in violations(module, source)] == []


def test_no_import_cycles() -> None:
    order = TopologicalSorter({module: own_modules(source) - {module} for module, source in MODULES.items()}).static_order()
    assert set(order) >= set(MODULES)  # static_order raises a CycleError that names the cycle


def test_losses_need_only_torch() -> None:
    """Directly and through their imports, so that the training loop of another framework can use them."""
    reached: set[str] = set()
    queue = [name for name in MODULES if name.startswith("losses.") and name != "losses.criterion"]
    while queue:
        reached.add(name := queue.pop())
        queue += own_modules(MODULES[name]) - reached
    assert set().union(*(libraries(MODULES[name]) for name in reached)) <= {"torch", "torchvision"}
    assert {name.split(".")[0] for name in reached} <= {"losses", "ops", "structures"}


def test_the_check_finds_violations() -> None:
    examples: list[tuple[str, str, list[str]]] = [
        ("ops.color", "import numpy\nfrom cis_seg.errors import DataError", []),
        ("ops.color", "def f():\n    from cis_seg.model import necks", ["ops.color imports model.necks"]),
        ("losses.pairwise", "import cis_seg.model.necks", ["losses.pairwise imports model.necks"]),
        ("model.necks", "from cis_seg import losses", ["model.necks imports losses"]),
        ("errors", "from cis_seg.structures import Target", ["errors imports structures"]),
        ("data.coco", "import lightning as L", ["data.coco imports lightning"]),
        ("data.instance_datamodule", "from lightning import LightningDataModule", []),
        ("training.callbacks.wandb_logging.logger", "import wandb", []),
        ("model.necks", "from omegaconf import DictConfig", ["model.necks imports omegaconf"]),
        ("ops.color", "from . import boxes", ["ops.color: write the relative import ..boxes out"]),
        ("helpers", "", ["helpers is new: give it a place in LAYERS"]),
    ]
    for module, source, expected in examples:
        assert violations(module, source) == expected


def test_extension_points_touch_at_most_five_files() -> None:
    """Each list of CONTRIBUTING.md has a file per line, and the files that are not to be created exist."""
    page = (SOURCE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lists = re.findall(r"^\*\*(.+?)\*\*$(.+?)(?=^\*\*|\Z)", page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in lists] == ["A loss term", "An option", "A backbone", "A data set", "A command"]
    for name, text in lists:
        assert 3 <= len(re.findall(r"^\d\. ", text, re.MULTILINE)) <= 5, name
        paths = re.findall(r"`((?:src|conf|scripts|tests)/\S+)`", text)
        assert [path for path in paths if "NAME" not in path and not (SOURCE.parent / path).exists()] == [], name


def test_the_package_itself_is_light() -> None:
    assert own_modules(MODULES["__init__"]) | libraries(MODULES["__init__"]) == {"inference.network"}
    code = "import sys, cis_seg; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert [name for name in done.stdout.split() if name.startswith("cis_seg")] == ["cis_seg"]
    assert {"numpy", "torch", "hydra"}.isdisjoint(done.stdout.split())


IMPORT_EVERYTHING = """
import importlib, inspect, json, pkgutil, socket, sys
asked = []
def refuse(*args, **kwargs):
    asked.append(repr(args))
    raise OSError("this test has no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = socket.socket.connect_ex = refuse
import cis_seg
names = [info.name for info in pkgutil.walk_packages(cis_seg.__path__, "cis_seg.") if not info.name.startswith("cis_seg.conf.")]
for name in names:
    importlib.import_module(name)
classes = [c for name in names for c in vars(sys.modules[name]).values() if isinstance(c, type) and c.__module__ == name]
overridden = [
    f"{c.__module__}.{c.__name__}.{name}"
    for c in classes
    for base in c.__mro__[1:] if base.__module__.split(".")[0] not in {"cis_seg", *sys.stdlib_module_names}
    for name in vars(c).keys() & vars(base).keys()
    if name.startswith("_") and not name.endswith("_") and inspect.isroutine(vars(c)[name])
]
from cis_seg.data.transforms import TrainTransform
TrainTransform(sizes=[32], max_size=64, photometric="strong")  # imports albumentations, which asks a server for its version
import albumentations
print(json.dumps({"modules": names, "asked": asked, "overridden": overridden}))
"""


@pytest.mark.slow  # part of `make check` too
def test_importing_has_no_side_effect_and_no_class_overrides_a_private_method(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)
    command = [sys.executable, "-W", "error::DeprecationWarning:cis_seg", "-c", IMPORT_EVERYTHING]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # fails if anything else was printed
    assert report["asked"] == []
    assert report["overridden"] == [], "a private method of another library's class: runtime/compat.py has the mixins for those"
    assert {f"cis_seg.{name}" for name in MODULES if name != "__init__"} <= set(report["modules"])
    assert not list(tmp_path.iterdir())


def test_test_files_have_distinct_names() -> None:
    """Two files of one name in different folders would keep pytest from collecting any test."""
    names = [path.name for path in (SOURCE.parent / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
