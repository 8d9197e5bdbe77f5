"""Reading checkpoints: never an arbitrary object, always a readable error."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cis_seg.errors import CheckpointError

log = logging.getLogger(__name__)

#: prefix of the network's tensors in a Lightning checkpoint of ``CondInstModule``
MODEL_PREFIX = "model."


def load_file(path: Path) -> dict[str, Any]:
    """A checkpoint file as plain containers and tensors (weights-only: no code in it is run).

    Raises:
        CheckpointError: no such file, a damaged file, or one that holds more than tensors and plain containers.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
        raise CheckpointError(
            f"there is no checkpoint {path}", found=f"in {path.parent}: {', '.join(there) or 'no .ckpt file'}", remedy="check the path"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails in whatever way the damaged bytes lead it to
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint",
            expected="a file of tensors and plain containers",
            found=_what_was_found(path, error),
            remedy="use another file, or write this one again",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint", expected="a dictionary", found=type(content).__name__)
    return content


def _what_was_found(path: Path, error: Exception) -> str:
    """In our words: torch's message advises to load the file with its code."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"the Python object {foreign[1]}, which is not loaded because it could run code"
    return f"{path.stat().st_size} bytes that are damaged, cut short or of another format ({type(error).__name__})"


def model_state(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's tensors of a checkpoint written by ``cis_seg.train``.

    Raises:
        CheckpointError: the file was written by something else.
    """
    if "state_dict" not in content or "cis_seg" not in content:
        raise CheckpointError(
            f"{path} was not written by cis_seg.train",
            expected="the keys state_dict and cis_seg",
            found=", ".join(sorted(map(str, content))[:8]),
            remedy="give a checkpoints/last.ckpt or best.ckpt of a run",
        )
    return {k.removeprefix(MODEL_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(MODEL_PREFIX)}


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Copies ``state`` into ``model``; every tensor must be there, with its shape, and none left over.

    Raises:
        CheckpointError: names and shapes that do not fit.
    """
    own = model.state_dict()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own.keys() - state.keys()]
    problems += [f"left over {name} {tuple(state[name].shape)}" for name in state.keys() - own.keys()]
    problems += [
        f"{name}: expected {tuple(own[name].shape)}, found {tuple(state[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit the model: {len(problems)} tensors differ",
            found="\n    " + "\n    ".join(sorted(problems)[:10]),
            remedy="use the model config the checkpoint was trained with",
        )
    model.load_state_dict(state)


def init_from(model: nn.Module, path: Path) -> None:
    """Starts ``model`` from the weights of another run, and says so; all tensors must fit."""
    load_strictly(model, model_state(load_file(path), path), path)
    log.info("init_from: all %d tensors of %s loaded", len(model.state_dict()), path)
