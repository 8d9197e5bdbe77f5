"""Conversion of a file, and a table of the result."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cis_seg.adelaidet.convert import Conversion, convert_model
from cis_seg.adelaidet.imagenet import convert_backbone, is_backbone
from cis_seg.adelaidet.reading import read_weights
from cis_seg.errors import CheckpointError
from cis_seg.runtime.atomic_files import write_atomically


def convert_file(source: Path, target: Path, *, class_names: Sequence[str] | None = None) -> Conversion:
    """Convert ``source`` and write ``target`` atomically.

    A full model becomes a checkpoint, a bare ImageNet backbone a file for ``model.backbone.weights``.

    Args:
        source: ``.pth`` or ``.pkl`` file of AdelaiDet, detectron2 or Detectron.
        target: file to write; its folder is created, an existing file is replaced.
        class_names: class names in label order, for models with other classes than COCO's.

    Raises:
        UserError: the file cannot be converted; nothing is written.
    """
    if target.resolve() == source.resolve():
        raise CheckpointError("the output would replace the input", where=source, remedy="choose another name")
    weights = read_weights(source)
    conversion = convert_backbone(weights) if is_backbone(weights) else convert_model(weights, class_names)
    target.parent.mkdir(parents=True, exist_ok=True)
    stored = io.BytesIO()
    torch.save(conversion.content, stored)
    write_atomically(target, stored.getbuffer())
    return conversion


def print_conversion(console: Console, conversion: Conversion, *, source: Path, target: Path) -> None:
    """Print a table of the parts, then the notes."""
    table = Table("part", "tensors", "parameters", "buffer elements")
    for part in sorted(conversion.parts, key=lambda part: part == "all"):
        table.add_row(part, *(f"{number:,}" for number in conversion.parts[part]))
    console.print(table)
    for note in [*conversion.notes, f"{source} -> {target}"]:
        console.print(note, soft_wrap=True, markup=False, highlight=False)
