"""The architecture of an AdelaiDet checkpoint, inferred from tensor names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torchvision.models.resnet import Bottleneck

from cis_seg.config.schema import BackboneConfig, ModelConfig
from cis_seg.errors import CheckpointError
from cis_seg.model.adelaidet.weights import BIFPN_BODY, FPN_BODY, HEAD
from cis_seg.model.resnet import ARCHITECTURES

Shapes = Mapping[str, tuple[int, ...]]

#: pixel statistics of all AdelaiDet models with an MSRA ImageNet backbone; they cannot be inferred from shapes
MSRA_PIXEL_MEAN, MSRA_PIXEL_STD = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]
#: coarsest level that the mask branch reads
COARSEST_MASK_LEVEL = 5


@dataclass(frozen=True)
class Architecture:
    """A network configuration, and the prefix of its ResNet in the file."""

    model: ModelConfig
    num_classes: int
    body: str  # prefix of the ResNet's names in the file


def read_architecture(shapes: Shapes) -> Architecture:
    """Infer the architecture from tensor shapes.

    Each size is decided by the majority of the tensors that depend on it, so that a single tensor of the wrong shape is
    reported as such. What shapes do not determine follows AdelaiDet: BGR, its pixel statistics, the stride in the first
    1x1 convolution, frozen norm, 32 groups, three dynamic layers of 8 channels.

    Raises:
        CheckpointError: not a model of the CondInst family, or one with unsupported parts.
    """
    needed = {
        "a ResNet": r"backbone\.bottom_up\..*stem\.conv1\.weight",
        "FCOS": re.escape(HEAD) + ".+",
        "a mask branch": r"mask_branch\..+",
    }
    missing = [part for part, pattern in needed.items() if not any(re.fullmatch(pattern, name) for name in shapes)]
    if missing:
        raise CheckpointError(
            "these are not the weights of a CondInst or BoxInst model",
            expected="the parts backbone.bottom_up, proposal_generator.fcos_head, mask_branch and controller of AdelaiDet",
            found=f"no tensors of {', '.join(missing)}, but {', '.join(sorted(shapes)[:5])}, ...",
        )
    bifpn = any(name.startswith("backbone.repeated_bifpn.") for name in shapes)
    body = BIFPN_BODY if bifpn else FPN_BODY
    mask_convs = _last(shapes, r"mask_branch\.tower\.(\d+)\..+")  # the last is a 1x1
    model = ModelConfig(
        backbone=read_backbone(shapes, body),
        pixel_mean=list(MSRA_PIXEL_MEAN),
        pixel_std=list(MSRA_PIXEL_STD),
        channel_order="bgr",
        neck="bifpn" if bifpn else "fpn",
        neck_channels=_size(shapes, r"backbone\.repeated_bifpn\.\d+\.outputs_\w+\.weight" if bifpn else r"backbone\.fpn_.+"),
        head_channels=_size(shapes, re.escape(HEAD) + r"(cls|bbox)_tower\.\d+\.\w+"),
        head_convs=_last(shapes, re.escape(HEAD) + r"(?:cls|bbox)_tower\.(\d+)\..+") // 3 + 1,  # conv, norm, ReLU
        mask_feat_level=COARSEST_MASK_LEVEL - _last(shapes, r"mask_branch\.refine\.(\d+)\..+"),
        mask_branch_channels=_size(shapes, r"mask_branch\.(refine|tower)\.\d+\.\d+\.\w+"),
        mask_branch_convs=mask_convs,
        mask_feat_channels=_size(shapes, rf"mask_branch\.tower\.{mask_convs}\.\w+"),
    )
    if model.head_channels % model.head_norm_groups:
        expected = f"a multiple of {model.head_norm_groups}, the groups of the towers' norm"
        raise CheckpointError("the head's towers have an invalid width", expected=expected, found=model.head_channels)
    return Architecture(model, _size(shapes, re.escape(HEAD) + r"cls_logits\.\w+"), body)


def read_backbone(shapes: Shapes, body: str) -> BackboneConfig:
    """Infer the ResNet whose names begin with ``body``: its depth from block counts, deformable blocks from offsets.

    Raises:
        CheckpointError: no supported ResNet has those blocks.
    """
    prefix = re.escape(body)
    counts = tuple(_last(shapes, rf"{prefix}res{stage}\.(\d+)\..+") + 1 for stage in (2, 3, 4, 5))
    bottlenecks = any(re.fullmatch(rf"{prefix}res\d\.\d+\.conv3\.weight", name) for name in shapes)
    depths = [d for d, (block, c) in ARCHITECTURES.items() if c == counts and (block is Bottleneck) == bottlenecks]
    if not depths:
        raise CheckpointError(
            "unsupported ResNet depth",
            expected="the blocks of " + ", ".join(f"ResNet-{d} {c}" for d, (_, c) in ARCHITECTURES.items()),
            found=f"{counts} {'bottlenecks' if bottlenecks else 'blocks'} in res2 to res5",
        )
    return BackboneConfig(
        depth=depths[0],
        width=_size(shapes, rf"{prefix}stem\..+"),
        weights=None,
        norm="frozen",
        stride_in_1x1=True,
        deform_interval=_deform_interval(shapes, prefix, counts),
    )


def _deform_interval(shapes: Shapes, prefix: str, counts: tuple[int, ...]) -> int:
    """Return n if every n-th block of stages 3 to 5 is deformable, or 0 if none is."""
    found = {
        (stage, block) for stage in (2, 3, 4, 5) for block in _numbers(shapes, rf"{prefix}res{stage}\.(\d+)\.conv2_offset\..+")
    }  # fmt: skip
    for interval in range(1, max(counts) + 1):
        if found == {(stage, block) for stage in (3, 4, 5) for block in range(0, counts[stage - 2], interval)}:
            return interval
    if found:
        raise CheckpointError(
            "unsupported pattern of deformable blocks",
            expected="every n-th block of res3, res4 and res5, starting with the first of each stage",
            found="offsets in " + ", ".join(f"res{stage}.{block}" for stage, block in sorted(found)),
        )
    return 0


def _numbers(shapes: Shapes, pattern: str) -> Iterator[int]:
    return (int(m[1]) for name in shapes if (m := re.fullmatch(pattern, name)))


def _last(shapes: Shapes, pattern: str) -> int:
    """Return the highest number in the matching names, or -1."""
    return max(_numbers(shapes, pattern), default=-1)


def _size(shapes: Shapes, pattern: str) -> int:
    """Return the most frequent first dimension of the matching tensors."""
    sizes = Counter(shape[0] for name, shape in shapes.items() if shape and re.fullmatch(pattern, name))
    if not sizes:
        raise CheckpointError("a part is missing", expected=f"tensors named {pattern}", found="none")
    return sizes.most_common(1)[0][0]
