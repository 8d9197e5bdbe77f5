"""Conversion of an AdelaiDet checkpoint to a checkpoint of this package. C is the number of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cis_seg.checkpoints import MODEL_PREFIX
from cis_seg.coco.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.model.adelaidet.architecture import Architecture, read_architecture
from cis_seg.model.adelaidet.weights import SCALES, Weights, their_names
from cis_seg.model.build import build_model
from cis_seg.model.mask_head import SIZE_OF_INTEREST_IN_STRIDES

#: our tensors that AdelaiDet keeps in its config
STATISTICS = ("pixel_mean", "pixel_std")
#: their tensors that are not weights: checked and reported
ITERATION, SIZES_OF_INTEREST = "mask_head._iter", "mask_head.sizes_of_interest"
#: maximum number of tensors listed in an error
MAX_LISTED = 20


@dataclass(frozen=True)
class Conversion:
    """The converted content, and information for the user."""

    content: dict[str, Any]
    parts: dict[str, tuple[int, int, int]]  # part of the network -> number of tensors, parameters, buffer elements
    notes: list[str] = field(default_factory=list)


def convert_model(weights: Weights, class_names: Sequence[str] | None = None) -> Conversion:
    """Return a checkpoint for ``evaluate``, ``predict`` and ``init_from``.

    Args:
        weights: all tensors of a CondInst or BoxInst model.
        class_names: C names in label order; by default COCO's for 80 classes and ``person`` for one.

    Raises:
        CheckpointError: another family of models, or missing, unexpected or wrongly shaped tensors.
        ConfigError: the number of names is not C.
    """
    found = read_architecture(weights.shapes)
    names, category_ids = classes(found.num_classes, class_names)
    with torch.device("meta"):
        network = build_model(found.model, found.num_classes)
    own = network.state_dict()
    renamed = {name: their_names(name, found.body) for name in own if name not in STATISTICS}
    expected = {theirs: (1,) if name == SCALES else tuple(own[name].shape) for name, many in renamed.items() for theirs in many}
    check_tensors(weights, expected, allowed=(ITERATION, SIZES_OF_INTEREST, *STATISTICS))
    state = {name: torch.cat([weights.tensors[theirs] for theirs in many]) for name, many in renamed.items() if name == SCALES}
    state |= {name: weights.tensors[many[0]] for name, many in renamed.items() if name != SCALES}
    mean, std = (_statistics(weights, name, getattr(found.model, name)) for name in STATISTICS)
    model = dataclasses.replace(found.model, pixel_mean=mean, pixel_std=std)
    state |= {name: torch.tensor(getattr(model, name)).view(1, 3, 1, 1) for name in STATISTICS}
    content = {
        "state_dict": {MODEL_PREFIX + name: state[name].clone(memory_format=torch.contiguous_format) for name in own},
        "cis_seg": {
            "config": {"name": weights.path.stem, "model": dataclasses.asdict(model)},
            "class_names": list(names),
            "category_ids": list(category_ids),
        },
    }
    return Conversion(content, count_parts(network), [_description(found, names), *_notes(weights)])


def classes(count: int, given: Sequence[str] | None = None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and COCO category ids of ``count`` classes.

    Raises:
        ConfigError: the number of names is wrong, or there is no default for ``count`` classes.
    """
    known = {len(COCO_CLASSES): COCO_CLASSES, 1: COCO_CLASSES[:1]}
    names = tuple(given) if given is not None else known.get(count)
    if names is None or len(names) != count or len(set(names)) != count:
        raise ConfigError(
            f"the classifier has {count} classes",
            expected=f"{count} different names in label order",
            found="none" if names is None else ", ".join(names),
            remedy="pass them: --classes NAME,NAME,...",
        )
    ids = dict(zip(COCO_CLASSES, COCO_CATEGORY_IDS, strict=True))
    return names, tuple(ids[name] for name in names) if set(names) <= ids.keys() else tuple(range(1, count + 1))


def check_tensors(weights: Weights, expected: Mapping[str, tuple[int, ...]], *, allowed: Sequence[str] = ()) -> None:
    """Check that all expected tensors exist with their shapes, and no others except the ``allowed`` ones.

    Raises:
        CheckpointError: lists the names and shapes that differ.
    """
    shapes = weights.shapes
    problems = [f"missing {name} {shape}" for name, shape in expected.items() if name not in shapes]
    problems += [f"unexpected {name} {shapes[name]}" for name in shapes if name not in expected and name not in allowed]
    problems += [f"{name}: expected {shape}, found {shapes[name]}" for name, shape in expected.items() if shapes.get(name, shape) != shape]
    if problems:
        more = [f"... and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
        raise CheckpointError(
            f"{weights.path}: {len(problems)} tensors do not fit the architecture that the others imply",
            found="\n    " + "\n    ".join(problems[:MAX_LISTED] + more),
            remedy="download the file again; models with other parts than CondInst's are not supported",
        )


def _statistics(weights: Weights, name: str, usual: list[float]) -> list[float]:
    """Return the pixel statistics of the file, or the usual ones if it has none."""
    return weights.tensors[name].flatten().tolist() if name in weights.tensors else usual


def _notes(weights: Weights) -> list[str]:
    """Describe the content of the file that is not part of the network.

    Raises:
        CheckpointError: the sizes of interest differ from those of our mask head.
    """
    notes = []
    sizes = weights.tensors.get(SIZES_OF_INTEREST)
    if sizes is not None:
        own = [SIZE_OF_INTEREST_IN_STRIDES * stride for stride in (8, 16, 32, 64, 128)]
        if sizes.any() and sizes.tolist() != own:  # zeros mean unset
            raise CheckpointError(f"{SIZES_OF_INTEREST} is not supported", where=weights.path, expected=own, found=sizes.tolist())
        notes.append(f"{SIZES_OF_INTEREST} {sizes.tolist()}: not stored, ours are {own}")
    if ITERATION in weights.tensors:
        step = int(weights.tensors[ITERATION].item())
        notes.append(
            f"{ITERATION} {step}: the warm-up factor of the pairwise loss was min({step} / 10000, 1); not stored. "
            "To fine-tune at full weight, set loss.pairwise.warmup_steps=0"
        )
    if weights.ignored:
        notes.append(f"not converted: {', '.join(weights.ignored)}")
    return notes


def _description(found: Architecture, names: Sequence[str]) -> str:
    model, backbone = found.model, found.model.backbone
    interval = backbone.deform_interval
    deformable = f", {'every block' if interval == 1 else f'one block in {interval}'} of stages 3 to 5 deformable" if interval else ""
    classes_text = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (
        f"ResNet-{backbone.depth} (stride in the first 1x1, frozen norm{deformable}), {model.neck} of {model.neck_channels} channels, "
        f"{found.num_classes} classes ({classes_text}), {model.mask_feat_channels} mask features; "
        f"pixels {model.channel_order} minus {model.pixel_mean} over {model.pixel_std}"
    )


def count_parts(network: nn.Module) -> dict[str, tuple[int, int, int]]:
    """Return ``{part: (tensors, parameters, buffer elements)}`` for each submodule of ``network`` and for ``all``."""
    trained = {name for name, _ in network.named_parameters()}
    parts: dict[str, tuple[int, int, int]] = {}
    for name, value in network.state_dict().items():
        for part in (name.split(".")[0] if "." in name else "statistics", "all"):
            tensors, parameters, buffers = parts.get(part, (0, 0, 0))
            is_parameter = name in trained
            parts[part] = tensors + 1, parameters + is_parameter * value.numel(), buffers + (not is_parameter) * value.numel()
    return parts
