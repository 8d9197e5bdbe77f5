"""One foreign file to one of ours, and the table that says what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cis_seg.adelaidet.convert import Conversion, convert_model
from cis_seg.adelaidet.imagenet import convert_backbone, is_backbone
from cis_seg.adelaidet.reading import read_weights
from cis_seg.errors import CheckpointError


def convert_file(source: Path, target: Path, *, class_names: Sequence[str] | None = None) -> Conversion:
    """Reads ``source``, converts it and writes ``target`` in one piece.

    A whole model becomes a checkpoint, a bare ImageNet backbone a file for ``model.backbone.weights``.

    Args:
        source: ``.pth`` or ``.pkl`` of AdelaiDet, detectron2 or Detectron.
        target: file to write; its folder is made, an existing file is replaced.
        class_names: names of the classes in label order, for models with other classes than COCO's.

    Raises:
        UserError: what is wrong with the file, with names and shapes; nothing is written then.
    """
    if target.resolve() == source.resolve():
        raise CheckpointError("the result would replace the file it is made from", where=source, remedy="give it another name")
    weights = read_weights(source)
    conversion = convert_backbone(weights) if is_backbone(weights) else convert_model(weights, class_names)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.partial")
    torch.save(conversion.content, draft)
    draft.replace(target)
    return conversion


def print_conversion(console: Console, conversion: Conversion, *, source: Path, target: Path) -> None:
    """Parts with their tensors and numbers, then what else there is to know."""
    table = Table("part", "tensors", "parameters", "fixed numbers")
    for part in sorted(conversion.parts, key=lambda part: part == "all"):
        table.add_row(part, *(f"{number:,}" for number in conversion.parts[part]))
    console.print(table)
    for note in [*conversion.notes, f"{source} -> {target}"]:
        console.print(note, soft_wrap=True, markup=False, highlight=False)
