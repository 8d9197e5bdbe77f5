"""From an AdelaiDet checkpoint to a checkpoint of this package, tensor by tensor.

Legend: D depth of the ResNet, C classes, P parameters that the controller emits for an instance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cis_seg.adelaidet.architecture import Architecture, read_architecture
from cis_seg.adelaidet.names import SCALES, their_names
from cis_seg.adelaidet.reading import Weights
from cis_seg.checkpoints.reading import MODEL_PREFIX
from cis_seg.coco.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.model.build import build_model
from cis_seg.model.dynamic_mask_head import SIZE_OF_INTEREST_IN_STRIDES

#: tensors of ours that the reference keeps in its config
STATISTICS = ("pixel_mean", "pixel_std")
#: tensors of theirs that are no weights: read, checked and told
ITERATION, SIZES_OF_INTEREST = "mask_head._iter", "mask_head.sizes_of_interest"
#: most names that an error lists
LISTED = 20


@dataclass(frozen=True)
class Conversion:
    """What is to be written, and what to tell about it."""

    content: dict[str, Any]
    parts: dict[str, tuple[int, int, int]]  # part of the network -> its tensors, parameters, numbers that are not trained
    notes: list[str] = field(default_factory=list)


def convert_model(weights: Weights, class_names: Sequence[str] | None = None) -> Conversion:
    """A checkpoint that ``evaluate``, ``predict`` and ``init_from`` accept.

    Args:
        weights: all tensors of a CondInst or BoxInst model.
        class_names: C names in label order; None takes COCO's for 80 classes and ``person`` for one.

    Raises:
        CheckpointError: another family of models, or tensors that are missing, left over or misshapen.
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
    """Names and COCO category ids of ``count`` classes.

    Raises:
        ConfigError: as many names are not given, and there is no choice that goes without saying.
    """
    known = {len(COCO_CLASSES): COCO_CLASSES, 1: COCO_CLASSES[:1]}
    names = tuple(given) if given is not None else known.get(count)
    if names is None or len(names) != count or len(set(names)) != count:
        raise ConfigError(
            f"the classifier has {count} classes",
            expected=f"{count} different names in label order",
            found="none" if names is None else ", ".join(names),
            remedy="give them: --classes NAME,NAME,...",
        )
    ids = dict(zip(COCO_CLASSES, COCO_CATEGORY_IDS, strict=True))
    return names, tuple(ids[name] for name in names) if set(names) <= ids.keys() else tuple(range(1, count + 1))


def check_tensors(weights: Weights, expected: Mapping[str, tuple[int, ...]], *, allowed: Sequence[str] = ()) -> None:
    """Every tensor is there, with its shape, and none is left over but the ``allowed`` ones.

    Raises:
        CheckpointError: the names and shapes that differ.
    """
    shapes = weights.shapes
    problems = [f"missing {name} {shape}" for name, shape in expected.items() if name not in shapes]
    problems += [f"left over {name} {shapes[name]}" for name in shapes if name not in expected and name not in allowed]
    problems += [f"{name}: expected {shape}, found {shapes[name]}" for name, shape in expected.items() if shapes.get(name, shape) != shape]
    if problems:
        more = [f"... and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        raise CheckpointError(
            f"{weights.path} is not complete: {len(problems)} of its tensors differ from the architecture that the others show",
            found="\n    " + "\n    ".join(problems[:LISTED] + more),
            remedy="get the file again; a model with other parts than CondInst's cannot be converted",
        )


def _statistics(weights: Weights, name: str, usual: list[float]) -> list[float]:
    """The file's own pixel statistics where it has them, else the reference's."""
    return weights.tensors[name].flatten().tolist() if name in weights.tensors else usual


def _notes(weights: Weights) -> list[str]:
    """What is in the file and not in the network.

    Raises:
        CheckpointError: sizes of interest that our mask head does not have.
    """
    notes = []
    sizes = weights.tensors.get(SIZES_OF_INTEREST)
    if sizes is not None:
        own = [SIZE_OF_INTEREST_IN_STRIDES * stride for stride in (8, 16, 32, 64, 128)]
        if sizes.any() and sizes.tolist() != own:  # zeros, by which nothing can be divided, say nothing
            raise CheckpointError(f"{SIZES_OF_INTEREST} is not supported", where=weights.path, expected=own, found=sizes.tolist())
        notes.append(f"{SIZES_OF_INTEREST} {sizes.tolist()}: ours are {own}, not stored")
    if ITERATION in weights.tensors:
        step = int(weights.tensors[ITERATION].item())
        notes.append(
            f"{ITERATION} {step}: the pairwise loss's warm-up stood at min({step} / 10000, 1); not stored. "
            "A fine-tune goes on at full weight with loss.pairwise.warmup_steps=0"
        )
    if weights.set_aside:
        notes.append(f"beside the network, left aside: {', '.join(weights.set_aside)}")
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
    """``{part: (tensors, parameters, buffers' numbers)}`` of the submodules of ``network`` that have any, and of all together."""
    trained = {name for name, _ in network.named_parameters()}
    parts: dict[str, tuple[int, int, int]] = {}
    for name, value in network.state_dict().items():
        for part in (name.split(".")[0] if "." in name else "statistics", "all"):
            tensors, parameters, buffers = parts.get(part, (0, 0, 0))
            is_parameter = name in trained
            parts[part] = tensors + 1, parameters + is_parameter * value.numel(), buffers + (not is_parameter) * value.numel()
    return parts
