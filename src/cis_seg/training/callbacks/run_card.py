"""A one-page description of a run: its command, versions, data and network, with the parameters and multiply-adds of its parts."""

from __future__ import annotations

import copy
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cis_seg.data.batches import padded_size
from cis_seg.data.records import Records
from cis_seg.data.transforms import TrainTransform
from cis_seg.model.condinst import LEVELS, CondInst
from cis_seg.model.layers import ModulatedDeformConv2d
from cis_seg.structures import Batch

PARTS = ("backbone", "neck", "head", "mask_branch")
LIBRARIES = ("cis-seg", "torch", "torchvision", "lightning", "hydra-core", "pycocotools")


@dataclass(frozen=True)
class Part:
    """One part of the network."""

    name: str
    parameters: int
    trained: int  # trainable parameters
    multiply_adds: int  # of the convolutions, for one image


@dataclass(frozen=True)
class ModelSummary:
    """The network at one input size."""

    parts: tuple[Part, ...]
    height: int  # of the padded input, in pixels
    width: int
    generated: int  # parameters that the controller generates per instance
    multiply_adds_per_person: int  # of the generated mask head
    strides: tuple[int, ...]  # of the levels
    mask_strides: tuple[int, int]  # of the mask features and of the masks

    @property
    def total(self) -> Part:
        """The sum of all parts."""
        numbers = ((p.parameters, p.trained, p.multiply_adds) for p in self.parts)
        return Part("total", *(sum(column) for column in zip(*numbers, strict=True)))


def summarize(model: CondInst, height: int, width: int) -> ModelSummary:
    """Summarise ``model`` for one image of ``height`` x ``width`` pixels (multiples of 32), from shapes alone.

    Multiply-adds are those of the convolutions; deformable ones include the convolution of their offsets.
    """
    costs = _multiply_adds(model, height, width)
    parts = []
    for name in PARTS:
        own = list(model.get_submodule(name).parameters())
        parts.append(Part(name, sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad), costs[name]))
    head = model.mask_head
    pixels = (height // head.feat_stride) * (width // head.feat_stride)
    return ModelSummary(
        parts=tuple(parts),
        height=height,
        width=width,
        generated=head.num_params,
        multiply_adds_per_person=pixels * sum(o * i for o, i in head.weight_shapes),
        strides=tuple(2**level for level in LEVELS),
        mask_strides=(head.feat_stride, head.feat_stride // head.factor),
    )


def _multiply_adds(model: CondInst, height: int, width: int) -> Counter[str]:
    """Return the multiply-adds of the convolutions of every part, from a forward pass on the ``meta`` device."""
    shapes = copy.deepcopy(model).to("meta").eval()
    costs: Counter[str] = Counter()

    def count(part: str, module: nn.Conv2d, output: Tensor) -> None:
        weights = module.weight[0].numel() * module.out_channels
        if isinstance(module, ModulatedDeformConv2d):
            weights += module.offset.weight.numel()
        costs[part] += weights * output.shape[-2] * output.shape[-1]

    for name, module in shapes.named_modules():
        owner = name.rpartition(".")[0]
        if isinstance(module, nn.Conv2d) and not (owner and isinstance(shapes.get_submodule(owner), ModulatedDeformConv2d)):
            part = name.split(".")[0]
            module.register_forward_hook(lambda m, _, output, part=part: count(part, m, output))
    with torch.no_grad():
        shapes(torch.zeros(2, 3, height, width, device="meta"))  # GroupNorm refuses a single value per group; costs are per image
    return costs


def summary_table(summary: ModelSummary) -> Table:
    """Return the summary as a table for the terminal."""
    table = Table("part", "parameters", "trained", "multiply-adds", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    table.title = f"one image of {summary.height}x{summary.width}"
    for part in (*summary.parts, summary.total):
        table.add_row(part.name, f"{part.parameters:,}", f"{part.trained:,}", f"{part.multiply_adds / 1e9:.2f} G")
    head = f"{summary.multiply_adds_per_person / 1e6:.2f} M per instance"
    table.add_row("mask head", f"{summary.generated:,} generated per instance", "", head, end_section=True)
    return table


class RunCard(L.Callback):
    """Print the network's summary for the full size of the first batch, and write ``<default_root_dir>/card.md``.

    Attributes:
        arguments: arguments of the command that started the run.
    """

    def __init__(self) -> None:
        self._written = False
        self.arguments: Sequence[str] = ()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if self._written or not trainer.is_global_zero:
            return
        self._written = True
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        summary = summarize(pl_module.model, *_full_size(batch, data.train_transform))  # type: ignore[arg-type]
        Console(stderr=True).print(summary_table(summary))
        Path(trainer.default_root_dir, "card.md").write_text(_card(trainer, pl_module, summary, self.arguments), encoding="utf-8")


def _full_size(batch: Batch, transform: TrainTransform) -> tuple[int, int]:
    """The padded (height, width) of ``batch`` with its images at the full size."""
    factor = transform.divisor(batch.positions[0])
    return padded_size([(factor * height, factor * width) for height, width in batch.image_sizes])


def _card(trainer: L.Trainer, module: Any, summary: ModelSummary, arguments: Sequence[str]) -> str:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    lines = [
        f"# {Path(trainer.default_root_dir)}",
        "",
        f"    {shlex.join(['python', '-m', 'cis_seg.train', *arguments])}",
        "",
        f"* from step {trainer.global_step} to {trainer.max_steps}, {data.batch_size} images per step, {trainer.world_size} x {name}, "
        f"{trainer.precision}",
        f"* {len(data.train_dataset)} training images, {len(data.val_dataset)} to score; classes: {', '.join(data.class_names)}",
        f"* {_supervision(module, data.train_dataset.records)}",
        f"* {', '.join(f'{library} {version(library)}' for library in LIBRARIES)}, Python {sys.version.split()[0]}",
        "",
        f"| part | parameters | trained | multiply-adds at {summary.height}x{summary.width} |",
        "|---|---|---|---|",
        *(f"| {p.name} | {p.parameters:,} | {p.trained:,} | {p.multiply_adds / 1e9:.2f} G |" for p in (*summary.parts, summary.total)),
        "",
        f"The controller generates {summary.generated} parameters per instance, whose mask head costs "
        f"{summary.multiply_adds_per_person / 1e6:.2f} M multiply-adds. Levels have strides {', '.join(map(str, summary.strides))}, "
        f"mask features {summary.mask_strides[0]}, masks {summary.mask_strides[1]}.",
    ]
    return "\n".join(lines) + "\n"


def _supervision(module: Any, records: Records) -> str:
    """What the instances are trained by."""
    supervision = module.metadata["config"]["supervision"]
    if records.mask_scores is None:
        return f"supervision={supervision}: {len(records.labels)} instances"
    scores, least = records.mask_scores, module.criterion.mixed.least_score
    true, used = int((scores == 1).sum()), int(((scores > 0) & (scores >= least)).sum())
    noisy = f"{used - true} with a noisy mask (score {least:g} or more)" if least < 1 else "noisy masks are not used"
    return f"supervision={supervision}: {true} instances with a true mask, {noisy}, {len(records.labels) - used} trained by their box alone"
