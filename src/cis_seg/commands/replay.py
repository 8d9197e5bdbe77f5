"""``python -m cis_seg.replay run/bad_steps/step000123.pt``: recompute a skipped step and show where it becomes non-finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cis_seg.checkpoints import checkpoint_metadata, load_strictly, model_state
from cis_seg.config.loss_schema import LossConfig, MixedConfig, TeacherConfig
from cis_seg.config.schema import ModelConfig
from cis_seg.config.validation import node_from_plain
from cis_seg.inference.postprocess import Postprocess
from cis_seg.inference.predictor import pick_device
from cis_seg.losses.criterion import Criterion
from cis_seg.model.build import build_model
from cis_seg.runtime.machine import FORMATS, memory_format
from cis_seg.training.module import CondInstModule
from cis_seg.training.optim import AVERAGE_PREFIX
from cis_seg.training.skipped_step import SavedStep, load_step
from cis_seg.training.teacher import Teacher

_SHOWN = 3  # names of parameters printed


@dataclass
class Replay:
    """The result of computing a step again."""

    saved: SavedStep
    losses: list[dict[str, float]] = field(default_factory=list)  # per micro-batch: the weighted sum as ``loss``, and the raw terms
    gradient_norm: float = 0.0
    first_module: str | None = None  # the first one with a non-finite output
    parameters: list[str] = field(default_factory=list)  # names of those with a non-finite gradient


def replay(path: Path, device: str = "auto") -> Replay:
    """Compute the step in ``path`` again, forward and backward, with its weights and precision.

    The numbers are reproduced on the same kind of device. If the run used several devices, a file holds the images of one process, and the
    losses are normalised over these alone. The loss of ``16-mixed`` is not scaled, so an overflow caused by the scale is not reproduced.

    Raises:
        CheckpointError: missing, corrupt, or not the file of a step.
    """
    saved, content = load_step(path)
    place = pick_device(device)
    module = _module(content, path, gpu=place.type != "cpu")
    module.to(place).train()
    result = Replay(saved)
    with _first_non_finite(module.model, result), _precision(saved.precision, module, place):
        for batch in saved.batches:
            output = module.weighted(module.losses(batch.to(place), step=saved.step))
            (output["loss"] / len(saved.batches)).backward()
            result.losses.append({"loss": float(output["loss"].detach())} | {name: float(term) for name, term in output["losses"].items()})
    gradients = {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
    result.gradient_norm = float(get_total_norm(list(gradients.values())))
    result.parameters = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    return result


def _module(content: dict[str, Any], path: Path, *, gpu: bool) -> CondInstModule:
    metadata = checkpoint_metadata(content, path)
    plain = metadata["config"]
    cfg = node_from_plain(ModelConfig, plain["model"], path, "model")
    loss = node_from_plain(LossConfig, plain["loss"], path, "loss")
    teacher = node_from_plain(TeacherConfig, plain.get("teacher", {}), path, "teacher")
    mixed = node_from_plain(MixedConfig, plain.get("mixed", {}), path, "mixed")
    model = build_model(cfg, len(metadata["class_names"]))
    order, _ = memory_format(plain.get("memory_format", "channels_last"), channels=cfg.neck_channels, gpu=gpu)
    model.use_memory_format(FORMATS[order])
    module = CondInstModule(
        model=model,
        criterion=Criterion(vars(loss.weights), cfg.mask_out_stride, loss.pairwise, loss.overlap, teacher, mixed, seed=plain["seed"]),
        postprocess=Postprocess(),
        optimizer=lambda model: (torch.optim.SGD(model.parameters()), None),  # no step is taken
        class_names=metadata["class_names"],
        category_ids=metadata["category_ids"],
        masks_per_image=cfg.masks_per_image,
        max_mask_samples=cfg.max_mask_samples,
        size_ranges=cfg.size_ranges,
        teacher=Teacher(teacher, cfg) if loss.weights.teacher else None,
        momentum=teacher.momentum if loss.weights.teacher else 0.0,
    )
    load_strictly(module.model, model_state(content, path), path)
    if module.average is not None:
        load_strictly(module.average, model_state(content, path, AVERAGE_PREFIX), path)
    return module


@contextmanager
def _first_non_finite(model: nn.Module, result: Replay) -> Iterator[None]:
    def check(name: str, output: Any) -> None:
        if result.first_module is None and isinstance(output, Tensor) and not output.isfinite().all():
            result.first_module = name

    def watch(name: str, module: nn.Module) -> Any:
        return module.register_forward_hook(lambda module, arguments, output: check(name, output))

    hooks = [watch(name, module) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _precision(precision: str, module: nn.Module, device: torch.device) -> Any:
    """Return the context in which the trainer computed; on a CPU ``16-mixed`` is bf16, as in Lightning."""
    kind, _, form = precision.partition("-")
    if kind not in ("16", "bf16"):
        return nullcontext()
    half = torch.bfloat16 if kind == "bf16" or device.type == "cpu" else torch.float16
    if form == "true":
        module.to(half)
        return nullcontext()
    return torch.autocast(device.type, dtype=half)


def print_replay(result: Replay, console: Console) -> None:
    """Print the losses as a table, and the modules and parameters with non-finite values."""
    table = Table("micro-batch", "images", *result.losses[0], title=f"step {result.saved.step}, {result.saved.precision}")
    for part, (batch, losses) in enumerate(zip(result.saved.batches, result.losses, strict=True)):
        table.add_row(str(part), ", ".join(map(str, batch.image_ids)), *(f"{value:.5g}" for value in losses.values()))
    console.print(table)
    names = result.parameters[:_SHOWN] + (["..."] if len(result.parameters) > _SHOWN else [])
    console.print(f"gradient norm: {result.gradient_norm:.5g}")
    console.print(f"first module with a non-finite output: {result.first_module or 'none'}")
    console.print(f"parameters with a non-finite gradient: {len(result.parameters)}{': ' if names else ''}{', '.join(names)}")
