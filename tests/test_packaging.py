"""The installed package: its declared dependencies, the contents of its wheel, and the wheel outside the checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cis_seg.config.paths import conf_dir

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENTS = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
#: distributions of optional features; a missing one is reported with the extra that installs it
OPTIONAL = {
    Requirement(line).name for extra, lines in PROJECT["project"]["optional-dependencies"].items() if extra != "dev" for line in lines
}
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()]

# distributions whose name differs from their module
DISTRIBUTIONS = {"markdown_it": "markdown-it-py", "cv2": "opencv-python-headless", "PIL": "pillow", "hydra": "hydra-core", "yaml": "pyyaml"}
# required by an option of another library, never imported here
INDIRECT = {"tensorboard"}


def imported_modules(path: Path) -> set[str]:
    """Return the top-level names of the absolute imports in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_import_is_declared_and_every_declaration_used() -> None:
    imported = set().union(*map(imported_modules, (ROOT / "src").rglob("*.py"))) - set(sys.stdlib_module_names) - {"cis_seg"}
    names = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imported}
    assert names - OPTIONAL | INDIRECT == {requirement.name for requirement in REQUIREMENTS}


def test_the_constraints_pin_every_requirement_within_its_range() -> None:
    for requirement in REQUIREMENTS + EXTRAS:
        pins = [pin for pin in PINS if pin.name == requirement.name]
        assert pins, requirement
        for pin in pins:
            (specifier,) = pin.specifier
            assert specifier.operator == "==", requirement
            assert requirement.specifier.contains(specifier.version), requirement


def test_the_constraints_contain_no_address() -> None:
    assert all(pin.url is None for pin in PINS)
    assert re.search(r"://|--|\s/", (ROOT / "constraints.txt").read_text(encoding="utf-8")) is None


def test_every_package_is_listed() -> None:
    found = {".".join(path.parent.relative_to(ROOT / "src").parts) for path in (ROOT / "src").rglob("__init__.py")}
    assert found | {"cis_seg.conf"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_checkout_uses_its_own_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert conf_dir() == str(ROOT / "conf")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, because setuptools leaves its build folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "copy" / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(folder / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("cis_seg-*.whl")
    return path


def test_the_wheel_holds_every_source_and_configuration_file(wheel: Path) -> None:
    expected = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "cis_seg").rglob("*.py")}
    expected |= {f"cis_seg/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == expected | {"cis_seg/py.typed"}
    assert any(name.endswith("/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_finds_its_configuration_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "cis_seg.train", "--info", "searchpath"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"file://{site}/cis_seg/conf" in done.stdout
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_the_wheel_alone_trains_and_predicts_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    """In a new environment, which has the libraries of this one but not its checkout."""
    site = tmp_path / "env" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True, timeout=300)
    torch = find_spec("torch")
    assert torch is not None
    libraries = Path(str(torch.origin)).parents[1]  # the .pth files in there, such as this checkout's, are not read
    (site / "libraries.pth").write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "env" / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=300)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"WANDB_MODE": "disabled"}

    def run(*words: str) -> str:
        command = [str(tmp_path / "env" / "bin" / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("python", "-c", "import cis_seg; print(cis_seg.__file__)").startswith(str(site))
    assert "  train  " in run("cis-seg")
    run("cis-seg", "train", "debug=fast", "data.num_train=8", "data.num_val=2", "name=small")
    photo = str(next((tmp_path / "data").glob("*/Images/*.jpg")))
    run("cis-seg", "predict", "checkpoint=runs/small/seed0/checkpoints/last.ckpt", f"input={photo}", "output=seen")
    assert (tmp_path / "seen" / "predictions.json").is_file()
