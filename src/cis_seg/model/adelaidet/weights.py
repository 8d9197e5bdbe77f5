"""Weight files of AdelaiDet, detectron2 and Caffe2, and the names of our tensors in them. No code in a file is ever executed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cis_seg.checkpoints import load_file
from cis_seg.errors import CheckpointError
from cis_seg.model.necks import NODES

Rule = tuple[str, Callable[[re.Match[str]], str]]
#: their prefix of the ResNet; a BiFPN wraps it once more
FPN_BODY, BIFPN_BODY = "backbone.bottom_up.", "backbone.bottom_up.backbone."
HEAD = "proposal_generator.fcos_head."
#: one parameter in ours, five scales in theirs
SCALES = "head.scales"


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


def _block(m: re.Match[str]) -> str:
    return f"res{int(m[1]) + 1}.{m[2]}"


def _node(m: re.Match[str]) -> str:
    """Name a BiFPN node by its level and inputs; our names contain its index."""
    level, inputs = NODES[int(m[2])]
    return f"f{level}_{'_'.join(map(str, inputs))}"


_BLOCK = r"layer(\d)\.(\d+)\."
#: names within the ResNet, without prefixes
BODY_RULES: tuple[Rule, ...] = (
    (r"conv1\.weight", lambda m: "stem.conv1.weight"),
    (r"bn1\.(\w+)", lambda m: f"stem.conv1.norm.{m[1]}"),
    (_BLOCK + r"conv2\.offset\.(\w+)", lambda m: f"{_block(m)}.conv2_offset.{m[3]}"),
    (_BLOCK + r"conv(\d)\.weight", lambda m: f"{_block(m)}.conv{m[3]}.weight"),
    (_BLOCK + r"bn(\d)\.(\w+)", lambda m: f"{_block(m)}.conv{m[3]}.norm.{m[4]}"),
    (_BLOCK + r"downsample\.0\.weight", lambda m: f"{_block(m)}.shortcut.weight"),
    (_BLOCK + r"downsample\.1\.(\w+)", lambda m: f"{_block(m)}.shortcut.norm.{m[3]}"),
)
_REPEAT = r"neck\.repeats\.(\d+)\."
RULES: tuple[Rule, ...] = (
    (r"neck\.fpn\.inner_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}.{m[2]}"),
    (r"neck\.fpn\.layer_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_output{int(m[1]) + 3}.{m[2]}"),
    (r"neck\.fpn\.extra_blocks\.(p\d\.\w+)", lambda m: f"backbone.top_block.{m[1]}"),
    (r"neck\.reduction\.0\.weight", lambda m: "backbone.bottom_up.res6.reduction.weight"),
    (r"neck\.reduction\.1\.(\w+)", lambda m: f"backbone.bottom_up.res6.reduction.norm.{m[1]}"),
    (_REPEAT + r"laterals\.(\d)\.0\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.lateral_{m[2]}_f{m[2]}.{m[3]}"),
    (_REPEAT + r"laterals\.(\d)\.1\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.lateral_{m[2]}_f{m[2]}.norm.{m[3]}"),
    (_REPEAT + r"nodes\.(\d)\.weights", lambda m: f"backbone.repeated_bifpn.{m[1]}.weights_{_node(m)}"),
    (_REPEAT + r"nodes\.(\d)\.output\.0\.weight", lambda m: f"backbone.repeated_bifpn.{m[1]}.outputs_{_node(m)}.weight"),
    (_REPEAT + r"nodes\.(\d)\.output\.1\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.outputs_{_node(m)}.norm.{m[3]}"),
    (r"head\.(cls_tower\..+|cls_logits\..+)", lambda m: HEAD + m[1]),
    (r"head\.box_tower\.(.+)", lambda m: f"{HEAD}bbox_tower.{m[1]}"),
    (r"head\.box_pred\.(\w+)", lambda m: f"{HEAD}bbox_pred.{m[1]}"),
    (r"head\.centerness\.(\w+)", lambda m: f"{HEAD}ctrness.{m[1]}"),
    (r"head\.(controller\.\w+)", lambda m: m[1]),
    (r"(mask_branch\..+)", lambda m: m[1]),
)


def their_names(ours: str, body: str, num_levels: int = 5) -> list[str]:
    """Return their names for our tensor: one name, or one scale per level.

    Args:
        ours: name in the state of ``CondInst``; not the pixel statistics, which AdelaiDet does not store.
        body: their prefix of the ResNet.
        num_levels: number of levels of the head.
    """
    if ours == SCALES:
        return [f"{HEAD}scales.{i}.scale" for i in range(num_levels)]
    if ours.startswith("backbone."):
        return [body + _renamed(ours.removeprefix("backbone."), BODY_RULES)]
    return [_renamed(ours, RULES)]


def _renamed(name: str, rules: tuple[Rule, ...]) -> str:
    for pattern, rename in rules:
        if match := re.fullmatch(pattern, name):
            return rename(match)
    raise AssertionError(f"no rule for {name}")
