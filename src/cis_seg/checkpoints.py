"""Reading checkpoints without running code from them, and with readable errors."""

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

#: the newest checkpoint of a run, and the one before it
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
#: prefix of the network's tensors in a Lightning checkpoint of ``CondInstModule``
MODEL_PREFIX = "model."
#: tensors with one row per class
CLASSIFIER = ("head.cls_logits.weight", "head.cls_logits.bias")
#: errors of the disk or its permissions; the file may be intact and must not be treated as corrupt
IO_ERRNOS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)
#: maximum number of names in a table or an error
LISTED = 10


def load_file(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors, on the CPU, and plain containers. Code in the file is not run.

    Raises:
        RunError: the disk failed; the file may be intact.
        CheckpointError: the file is missing or corrupt, or contains other objects.
    """
    check_checkpoint(path)
    try:
        _verify_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # corrupt bytes raise almost any exception in torch's reader
        if isinstance(error, OSError) and error.errno in IO_ERRNOS:
            remedy = "check the disk and the file's permissions, then start again"
            raise RunError(f"{path} cannot be read at the moment", found=str(error), remedy=remedy) from error
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint",
            expected="a file of tensors and plain containers",
            found=_describe_content(path, error),
            remedy="use another file, or write this one again",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint", expected="a dictionary", found=type(content).__name__)
    return content


def _verify_checksums(path: Path) -> None:
    """Verify the CRC-32 checksums of the archive, which torch writes but does not verify. Older formats have none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            corrupt = archive.testzip()
        if corrupt is not None:
            raise zipfile.BadZipFile(f"the checksum of its part {corrupt} differs")


def _describe_content(path: Path, error: Exception) -> str:
    """Describe what the file contains. torch's own message advises to load it unsafely."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return f"the Python object {foreign[1]}, which is not loaded because it could run code"
    size, kind = path.stat().st_size, file_kind(path)
    if size and kind is not None and kind.family != "checkpoint":
        return f"{kind.name}, another format ({size} bytes)" + (f"; {kind.remedy}" if kind.remedy else "")
    return f"{size} bytes that are corrupt, cut short or of another format ({type(error).__name__})"


def model_state(content: dict[str, Any], path: Path, prefix: str = MODEL_PREFIX) -> dict[str, Tensor]:
    """Return the network's tensors from a checkpoint that ``cis_seg.train`` or ``cis-seg convert`` wrote.

    Args:
        content: from ``load_file``.
        path: of the checkpoint, for messages.
        prefix: of the tensors in a module's state.

    Raises:
        CheckpointError: another program wrote the file.
    """
    if "state_dict" not in content or "cis_seg" not in content:
        raise CheckpointError(
            f"{path} was not written by cis_seg.train",
            expected="the keys state_dict and cis_seg",
            found=", ".join(sorted(map(str, content))[:8]),
            remedy="use checkpoints/last.ckpt or best.ckpt of a run; convert an AdelaiDet checkpoint with cis-seg convert",
        )
    return {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}


def checkpoint_metadata(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the checkpoint's metadata: ``config`` with the key ``model``, ``class_names`` and ``category_ids``.

    Args:
        content: from ``load_file``.
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: the metadata are missing or incomplete.
    """
    metadata = content.get("cis_seg")
    complete = isinstance(metadata, dict) and {"config", "class_names"} <= metadata.keys() and "model" in metadata["config"]
    if not isinstance(metadata, dict) or not complete:
        raise CheckpointError(
            f"{path} does not describe its network",
            expected="cis_seg with config.model and class_names",
            found=sorted(metadata) if isinstance(metadata, dict) else "no cis_seg",
            remedy="use a checkpoint of a run, or one from cis-seg convert",
        )
    return metadata


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Copy ``state`` into ``model``. The names and shapes of all tensors must match.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape; the model is unchanged.
    """
    own = model.state_dict()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own.keys() - state.keys()]
    problems += [f"unexpected {name} {tuple(state[name].shape)}" for name in state.keys() - own.keys()]
    problems += [
        f"{name}: expected {tuple(own[name].shape)}, found {tuple(state[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not match the model: {len(problems)} tensors differ",
            found="\n    " + "\n    ".join(sorted(problems)[:LISTED]),
            remedy="use the model config the checkpoint was trained with",
        )
    model.load_state_dict(state)


def init_from(
    model: nn.Module, path: Path, *, class_names: Sequence[str], classifier: str = "match", console: Console | None = None
) -> None:
    """Initialise ``model`` with the weights of another run, and print a table of the tensors.

    All tensors must match except those of the classifier. If the classes differ, each class takes the row of the same name
    (``match``): 80-class weights initialise a model of people with their row ``person``. With ``fresh`` the classifier keeps its
    random weights.

    Args:
        model: the network, with random weights.
        path: a checkpoint of ``cis_seg``, which may be a converted one.
        class_names: the model's classes in label order.
        classifier: ``match`` or ``fresh``.
        console: receives the table; None is the error stream.

    Raises:
        CheckpointError: the file is not a checkpoint of ``cis_seg``, its tensors do not match, or it lacks one of the classes.
        ConfigError: ``classifier`` has another value.
    """
    content = load_file(path)
    found, names = model_state(content, path), checkpoint_metadata(content, path)["class_names"]
    own = model.state_dict()
    if classifier == "fresh":
        changed, how = {name: own[name] for name in CLASSIFIER}, "not loaded, random weights"
    elif classifier == "match":
        rows, how = _rows(names, class_names, path), f"selected from {len(names)} rows by name: {', '.join(class_names[:5])}"
        changed = {name: found[name][rows] for name in CLASSIFIER if name in found} if rows != list(range(len(names))) else {}
    else:
        raise ConfigError("unknown value", where="init_classifier", expected="match or fresh", found=classifier)
    table = _load_table(own, found, dict.fromkeys(changed, how))
    console = console or Console(stderr=True)
    console.print(f"init_from {path}", markup=False, highlight=False, soft_wrap=True)  # does not break the path
    console.print(table, markup=False, highlight=False)
    load_strictly(model, found | changed, path)


def _rows(names: Sequence[str], wanted: Sequence[str], path: Path) -> list[int]:
    absent = [name for name in wanted if name not in names]
    if absent:
        raise CheckpointError(
            f"the checkpoint has no class {', '.join(absent[:LISTED])}",
            where=path,
            found=", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else ""),
            remedy="train the classifier from random weights with init_classifier=fresh, or use the checkpoint's class names",
        )
    return [names.index(name) for name in wanted]


def _load_table(own: dict[str, Tensor], found: dict[str, Tensor], changed: dict[str, str]) -> Table:
    """Return the table of loaded, reshaped, missing and unexpected tensors.

    Args:
        own: the model's tensors.
        found: the checkpoint's tensors.
        changed: how tensors of another shape were adapted, by name.
    """
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
