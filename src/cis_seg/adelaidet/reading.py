"""Safe reading of AdelaiDet, detectron2 and Caffe2 files: no code in them is ever executed."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cis_seg.checkpoints.reading import load_file
from cis_seg.errors import CheckpointError


@dataclass(frozen=True)
class Weights:
    """The content of a foreign file."""

    path: Path
    tensors: dict[str, Tensor]
    ignored: tuple[str, ...] = ()  # other entries of the file: optimizer, scheduler, iteration ...
    author: str = ""  # of an ImageNet file; determines the preprocessing

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: tuple(value.shape) for name, value in self.tensors.items()}


def read_weights(path: Path) -> Weights:
    """Read ``.pkl`` files as pickled numpy arrays and all others as torch files, weights only.

    The network is the dictionary itself or its entry ``model`` (detectron2) or ``blobs`` (Caffe2). The prefix ``module.``
    of a distributed wrapper is removed.

    Raises:
        CheckpointError: the file is missing or corrupt, contains other objects than arrays and plain containers, or is
            not a dictionary of tensors.
    """
    content = _read_pickle(path) if path.suffix == ".pkl" else load_file(path)
    if "state_dict" in content and "cis_seg" in content:
        raise CheckpointError(f"{path} is already a checkpoint of cis_seg", remedy="use it directly: checkpoint=PATH or init_from=PATH")
    key = next((key for key in ("model", "blobs") if isinstance(content.get(key), dict)), None)
    network = content if key is None else content[key]
    # Detectron's files also contain the solver's momentum of each array
    entries = {str(name): value for name, value in network.items() if not str(name).endswith("_momentum")}
    foreign = [f"{name} ({type(value).__name__})" for name, value in entries.items() if not isinstance(value, Tensor | np.ndarray)]
    if foreign or not entries:
        raise CheckpointError(
            f"{path} does not contain a network",
            expected="a dictionary of tensors, or one under the key model",
            found=", ".join(foreign[:8]) or "an empty dictionary",
        )
    tensors = {name: _tensor(value, f"{path}, {name}") for name, value in entries.items()}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    ignored = () if key is None else tuple(str(name) for name in content if name != key)
    return Weights(path, tensors, ignored, str(content.get("__author__", "")))


def _tensor(value: Tensor | np.ndarray[Any, Any], where: str) -> Tensor:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu":
            raise CheckpointError("an array is not numeric", where=where, expected="floats or integers", found=value.dtype)
        value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    return value.float() if value.is_floating_point() else value


def _latin1(text: str, encoding: str) -> bytes:
    """Replacement for ``_codecs.encode``, which encodes the bytes of arrays in pickle protocols below 3."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding}")
    return text.encode("latin1")


_ARRAY = np.zeros(1)
#: all globals that a pickled array refers to, under their numpy 1 names
_ALLOWED: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _ARRAY.__reduce__()[0],
    "numpy.core.numeric._frombuffer": _ARRAY.__reduce_ex__(5)[0],
    "_codecs.encode": _latin1,
}


class _ForbiddenObject(Exception):
    """A pickle refers to something other than an array."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that resolves only the globals of arrays; plain containers have their own opcodes."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if full_name not in _ALLOWED:
            raise _ForbiddenObject(f"{module}.{name}")
        return _ALLOWED[full_name]


def _read_pickle(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no file {path}", remedy="check the path")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()  # the files from 2017 were written by Python 2
    except _ForbiddenObject as error:
        found = f"the Python object {error}, which is not loaded because it could run code"
        raise CheckpointError(f"{path} contains more than arrays", expected="numpy arrays and plain containers", found=found) from error
    except Exception as error:  # corrupt bytes may decode to any opcode
        found = f"{path.stat().st_size} bytes, corrupt, truncated or of another format ({type(error).__name__})"
        raise CheckpointError(f"{path} cannot be read as a pickle", found=found, remedy="download the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not contain a network", expected="a dictionary of arrays", found=type(content).__name__)
    return content
