"""A one-page description of a run: its command, versions, data and network."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console

from cis_seg.data.records import Records
from cis_seg.model.summary import ModelSummary, summarize, summary_table

LIBRARIES = ("cis-seg", "torch", "torchvision", "lightning", "hydra-core", "pycocotools")


class RunCard(L.Callback):
    """Print the network's summary for the size of the first batch, and write ``<default_root_dir>/card.md``.

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
        summary = summarize(pl_module.model, *batch.padded_size)  # type: ignore[arg-type]
        Console(stderr=True).print(summary_table(summary))
        Path(trainer.default_root_dir, "card.md").write_text(_card(trainer, pl_module, summary, self.arguments), encoding="utf-8")


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
    return (
        f"supervision={supervision}: {true} instances with a true mask, {used - true} with a noisy mask (score {least:g} or more), "
        f"{len(records.labels) - used} trained by their box alone"
    )
