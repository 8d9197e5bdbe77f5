"""Reading checkpoints: never an arbitrary object, always a readable error."""

from __future__ import annotations

import errno
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cis_seg.config.paths import check_checkpoint
from cis_seg.errors import CheckpointError, ConfigError, RunError
from cis_seg.runtime.file_kinds import file_kind

#: of a run's checkpoints: the newest one, and the one before it
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
#: prefix of the network's tensors in a Lightning checkpoint of ``CondInstModule``
MODEL_PREFIX = "model."
#: the tensors with a row for every class
CLASSIFIER = ("head.cls_logits.weight", "head.cls_logits.bias")
#: what reading fails with where the disk is at fault and the file may be sound: it must not count as damaged
SICK_DISK = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)
#: most names that a table or an error lists
LISTED = 10


def load_file(path: Path) -> dict[str, Any]:
    """A checkpoint file as plain containers and tensors (weights-only: no code in it is run).

    Raises:
        RunError: the disk, not the file, is at fault.
        CheckpointError: no such file, a damaged file, or one that holds more than tensors and plain containers.
    """
    check_checkpoint(path)
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's reader fails in whatever way the damaged bytes lead it to
        if isinstance(error, OSError) and error.errno in SICK_DISK:
            remedy = "see to the disk and the file's permissions, then start again"
            raise RunError(f"{path} cannot be read now", found=str(error), remedy=remedy) from error
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint",
            expected="a file of tensors and plain containers",
            found=_what_was_found(path, error),
            remedy="use another file, or write this one again",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint", expected="a dictionary", found=type(content).__name__)
    return content


def _check_sums(path: Path) -> None:
    """Compares every part of the archive with its CRC-32, which torch writes but does not check; older formats have none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the part {damaged} does not have its sum")


def _what_was_found(path: Path, error: Exception) -> str:
    """In our words: torch's message advises to load the file with its code."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"the Python object {foreign[1]}, which is not loaded because it could run code"
    size, kind = path.stat().st_size, file_kind(path)
    if size and kind is not None and kind.family != "checkpoint":
        return f"{kind.name}, another format ({size} bytes)" + (f"; {kind.remedy}" if kind.remedy else "")
    return f"{size} bytes that are damaged, cut short or of another format ({type(error).__name__})"


def model_state(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's tensors of a checkpoint written by ``cis_seg.train`` or by ``scripts/convert_adelaidet.py``.

    Raises:
        CheckpointError: the file was written by something else.
    """
    if "state_dict" not in content or "cis_seg" not in content:
        raise CheckpointError(
            f"{path} was not written by cis_seg.train",
            expected="the keys state_dict and cis_seg",
            found=", ".join(sorted(map(str, content))[:8]),
            remedy="give a checkpoints/last.ckpt or best.ckpt of a run; convert one of AdelaiDet with scripts/convert_adelaidet.py",
        )
    return {k.removeprefix(MODEL_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(MODEL_PREFIX)}


def card_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the checkpoint says about its network: ``config`` with ``model`` in it, ``class_names``, ``category_ids``.

    Raises:
        CheckpointError: it does not say it.
    """
    card = content.get("cis_seg")
    whole = isinstance(card, dict) and {"config", "class_names"} <= card.keys() and "model" in card["config"]
    if not isinstance(card, dict) or not whole:
        raise CheckpointError(
            f"{path} does not say what network it holds",
            expected="cis_seg with config.model and class_names",
            found=sorted(card) if isinstance(card, dict) else "no cis_seg",
            remedy="give a checkpoint of a run, or one from scripts/convert_adelaidet.py",
        )
    return card


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
            found="\n    " + "\n    ".join(sorted(problems)[:LISTED]),
            remedy="use the model config the checkpoint was trained with",
        )
    model.load_state_dict(state)


def init_from(
    model: nn.Module, path: Path, *, class_names: Sequence[str], classifier: str = "match", console: Console | None = None
) -> None:
    """Starts ``model`` from the weights of another run and prints what became of every tensor.

    All tensors must fit, but for the classifier: where the checkpoint has other classes, each class takes the row of its name
    (``match``), so that 80-class weights start a model of people from their row ``person``; or all rows stay new (``fresh``).

    Args:
        model: the network, with fresh weights.
        path: a checkpoint of ``cis_seg``, converted ones included.
        class_names: the model's classes in label order.
        classifier: ``match`` or ``fresh``.
        console: where the table goes; None is the error stream.

    Raises:
        CheckpointError: no checkpoint of ``cis_seg``, tensors that do not fit, or a class that it does not have.
        ConfigError: another way of treating the classifier.
    """
    content = load_file(path)
    found, there = model_state(content, path), card_of(content, path)["class_names"]
    own = model.state_dict()
    if classifier == "fresh":
        changed, how = {name: own[name] for name in CLASSIFIER}, "left out, starts anew"
    elif classifier == "match":
        rows, how = _rows(there, class_names, path), f"of {len(there)} rows by name {', '.join(class_names[:5])}"
        changed = {name: found[name][rows] for name in CLASSIFIER if name in found} if rows != list(range(len(there))) else {}
    else:
        raise ConfigError("unknown treatment of the classifier", where="init_classifier", expected="match or fresh", found=classifier)
    table = _load_table(own, found, dict.fromkeys(changed, how))
    console = console or Console(stderr=True)
    console.print(f"init_from {path}", markup=False, highlight=False, soft_wrap=True)  # a path stays in one piece
    console.print(table, markup=False, highlight=False)
    load_strictly(model, found | changed, path)


def _rows(there: Sequence[str], wanted: Sequence[str], path: Path) -> list[int]:
    absent = [name for name in wanted if name not in there]
    if absent:
        raise CheckpointError(
            f"the checkpoint has no class {', '.join(absent[:LISTED])}",
            where=path,
            found=", ".join(there[:LISTED]) + (", ..." if len(there) > LISTED else ""),
            remedy="start the classifier anew with init_classifier=fresh, or name your classes like its",
        )
    return [there.index(name) for name in wanted]


def _load_table(own: dict[str, Tensor], found: dict[str, Tensor], changed: dict[str, str]) -> Table:
    """Loaded, reshaped, missing and unexpected tensors of ``found`` for a model's ``own``; ``changed`` says how some were made to fit."""
    reshaped = {
        name: f"{name} {tuple(found[name].shape)} -> {tuple(own[name].shape)}: {changed.get(name, 'refused')}"
        for name in own.keys() & found.keys()
        if name in changed or own[name].shape != found[name].shape
    }
    rows = {
        "loaded": {name: "" for name in own if name in found and name not in reshaped},
        "reshaped": reshaped,
        "missing": {name: f"{name} {tuple(own[name].shape)}" for name in own if name not in found},
        "unexpected": {name: f"{name} {tuple(found[name].shape)}" for name in found if name not in own},
    }
    table = Table("", "tensors", "numbers", "which")
    for label, names in rows.items():
        numbers = sum((own[name] if name in own else found[name]).numel() for name in names)
        listed = [text for text in sorted(names.values()) if text]
        more = [f"... and {len(listed) - LISTED} more"] if len(listed) > LISTED else []
        table.add_row(label, f"{len(names):,}", f"{numbers:,}", "\n".join(listed[:LISTED] + more))
    return table
