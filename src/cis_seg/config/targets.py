"""The arguments of a class that a config names by ``_target_``, read from its source: importing it would import PyTorch."""

from __future__ import annotations

import ast
import functools
from importlib.util import find_spec
from pathlib import Path


@functools.cache
def arguments_of(target: str) -> frozenset[str] | None:
    """Return the names of the arguments of a class. A class without a constructor takes those of its first base that has one.

    Args:
        target: dotted name of the class.

    Returns:
        The names; None if the source does not show them, as with ``**kwargs``, a decorated class or a module that does not exist.
    """
    module, _, name = target.rpartition(".")
    found = _definition(module, name)
    if found is None or found[1].decorator_list:
        return None
    module, definition = found
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            given = statement.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            return None if given.kwarg else frozenset(names[1:])  # without self
    for base in definition.bases:
        inherited = arguments_of(_imported(module, ast.unparse(base)))
        if inherited is None or inherited:
            return inherited
    return frozenset()


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Return the class that ``name`` is in ``module``, which may import it, and the module that defines it."""
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return module, statement
    source = _imported(module, name)
    return None if source == f"{module}.{name}" else _definition(*source.rpartition(".")[::2])


def _imported(module: str, name: str) -> str:
    """Return the full dotted name of ``name`` in ``module``: ``lightning.Callback`` of ``L.Callback`` after ``import lightning as L``."""
    head, dot, rest = name.partition(".")
    for statement in _statements(module):
        aliases = statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else ()
        for alias in aliases:
            if head == (alias.asname or alias.name):
                origin = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
                return f"{origin}{alias.name}{dot}{rest}"
    return f"{module}.{name}"


@functools.cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    """Return the statements of a module; none if its file is not found."""
    package, *parts = module.split(".")
    try:
        spec = find_spec(package)  # of a package on the top level, which does not import it
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or () if spec else ())]
    files = [Path(folder, *parts, "__init__.py") for folder in folders] + [Path(folder, *parts).with_suffix(".py") for folder in folders]
    if spec is not None and spec.origin and not parts:
        files = [Path(spec.origin)]
    file = next((file for file in files if file.is_file() and file.suffix == ".py"), None)
    return () if file is None else tuple(ast.parse(file.read_bytes()).body)
