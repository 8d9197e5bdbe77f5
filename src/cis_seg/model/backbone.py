"""What all backbones share: the stages they return, the stages that are not trained, and their pretrained weights.

A backbone is a classifier of torchvision without its last layers. It keeps torchvision's blocks and tensor names, so that torchvision's
files load without a mapping.

Legend: B batch, C channels of a stage, H W padded input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

#: stage -> stride of its features
STRIDES = {2: 4, 3: 8, 4: 16, 5: 32}
#: names of each kind in a message about a file that does not fit
LISTED = 3


class FrozenNorm(FrozenBatchNorm2d):  # type: ignore[misc]  # torchvision has no types
    """torchvision's frozen BatchNorm in one pass over the features instead of two, and in their type.

    torchvision multiplies by a float32 scale, which turns every feature map into float32 under bf16 autocast: twice the memory and another
    conversion. In float32 the results are identical.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` of any float type -> the same shape and type."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        return torch.addcmul(bias.to(x.dtype).view(1, -1, 1, 1), x, scale.to(x.dtype).view(1, -1, 1, 1))


class Backbone(nn.Module):
    """A sequence of modules, of which the outputs of four are the stages C2 to C5.

    A subclass creates the modules under torchvision's names, states the three attributes, and calls ``freeze``.

    Attributes:
        parts: names of the modules of the stem, then of stages 2 to 5, in the order in which they are applied.
        unread: prefixes of those tensors of torchvision's file that the backbone does not have, such as the classifier's.
        out_channels: ``{stage: channels}`` for stages 2 to 5.
    """

    parts: ClassVar[tuple[tuple[str, ...], ...]]
    unread: ClassVar[tuple[str, ...]]
    out_channels: dict[int, int]

    def freeze(self, stages: int) -> None:
        """Train neither the stem (1) nor the stages up to this one; 0 trains all. Frozen stages store no features for a backward pass."""
        for names in self.parts[:stages]:
            for name in names:
                self.get_submodule(name).requires_grad_(False)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """``(B, 3, H, W)`` normalised images -> ``{stage: (B, C, H / stride, W / stride)}`` for stages 2 to 5."""
        x, stages = images, {}
        for stage, names in enumerate(self.parts, start=1):
            for name in names:
                x = self.get_submodule(name)(x)
            stages[stage] = x
        return {stage: stages[stage] for stage in STRIDES}

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of torchvision's classifier, or of a file without its last layers.

        Raises:
            ValueError: names or shapes do not match; the message counts them and lists the first.
        """
        own = self.state_dict()
        read = {k: v for k, v in state.items() if not k.startswith(self.unread) and (k in own or not k.endswith("num_batches_tracked"))}
        if problems := _differences(own, read):
            raise ValueError("; ".join(problems))
        self.load_state_dict(own | read)


def _differences(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that are missing, unexpected or of another shape; empty if ``found`` fits."""
    kinds = {
        "missing": [f"{name} {_shape(own[name])}" for name in own if name not in found and not name.endswith("num_batches_tracked")],
        "unexpected": [f"{name} {_shape(value)}" for name, value in found.items() if name not in own],
        "of another shape": [
            f"{name} {_shape(value)} instead of {_shape(own[name])}"
            for name, value in found.items()
            if name in own and _shape(value) != _shape(own[name])
        ],
    }
    lines = [(kind, len(names), names[:LISTED] + ["..."] * (len(names) > LISTED)) for kind, names in kinds.items() if names]
    return [f"{count} {kind}: {', '.join(names)}" for kind, count, names in lines]


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"({type(value).__name__})"
