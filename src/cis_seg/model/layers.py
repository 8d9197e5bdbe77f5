"""Layers that torch does not have: a modulated deformable 3x3 convolution, and BatchNorm over the images of all processes.

Legend: B images of this process, C channels, H W input grid, h w output grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from cis_seg.ops.precision import at_least_float32, without_autocast
from cis_seg.runtime.collectives import number_of_processes, sum_over_processes

KERNEL = 3
TAPS = KERNEL * KERNEL


class ModulatedDeformConv2d(nn.Conv2d):
    """A 3x3 without bias; a second 3x3 predicts an offset and a weight for each of its nine taps at every output position.

    ``offset`` has 27 output channels: interleaved (y, x) offsets in pixels of the nine taps in row-major order, then nine modulation
    logits. It starts at zero, which leaves the taps in place with a weight of one half each, as in the reference.

    It is a ``Conv2d`` with the same parameter names, so that weights of the rigid network fit; only ``offset.*`` is new.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)
        self.offset = nn.Conv2d(in_channels, 3 * TAPS, KERNEL, stride=stride, padding=KERNEL // 2)
        self.zero_offsets()

    def zero_offsets(self) -> None:
        """Reset the offset convolution to zero."""
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C_out, h, w)`` of the same type.

        Always at least float32, also under autocast: ``deform_conv2d`` has no bf16 on the CPU, and bf16 positions lose their sub-pixel
        digits.
        """
        with without_autocast(x.device):
            wide = at_least_float32(x)
            offset, modulation = self._taps(wide)
            y: Tensor = deform_conv2d(
                wide, offset, at_least_float32(self.weight), stride=self.stride, padding=self.padding, mask=modulation
            )
        return y.to(x.dtype)

    def _taps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets ``(B, 18, h, w)`` in pixels and modulation ``(B, 9, h, w)`` in [0, 1]."""
        weight, bias = at_least_float32(self.offset.weight), at_least_float32(self.offset.bias)  # type: ignore[arg-type]
        raw = nn.functional.conv2d(x, weight, bias, stride=self.stride, padding=self.offset.padding)
        return raw[:, : 2 * TAPS], raw[:, 2 * TAPS :].sigmoid()


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm with the training statistics of the global batch, on any device; ``nn.BatchNorm2d`` in evaluation and in one process.

    Needed because ``nn.SyncBatchNorm`` does not support the CPU. Mean and variance are reduced separately: the mean of squares minus the
    squared mean would need one reduction, but its rounding errors are as large as small variances.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)``; B, h and w may differ between processes."""
        if not self.training or number_of_processes() == 1:
            return super().forward(x)
        wide = at_least_float32(x)
        sums = sum_over_processes(torch.cat([wide.sum(dim=(0, 2, 3)), wide.new_tensor([x.numel() // x.shape[1]])]))
        count = sums[-1].detach()
        centred = wide - (sums[:-1] / count).view(1, -1, 1, 1)
        var = sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / count
        self._track(sums[:-1].detach() / count, var.detach() * count / (count - 1))
        scale = self.weight * (var + self.eps).rsqrt()
        return torch.addcmul(self.bias.view(1, -1, 1, 1), centred, scale.view(1, -1, 1, 1)).to(x.dtype)

    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)


def share_norms(model: nn.Module, device: torch.device) -> None:
    """Share the statistics of every trainable BatchNorm of ``model`` over all processes; parameter and buffer names stay.

    Uses torch's SyncBatchNorm on a GPU. FrozenBatchNorm and GroupNorm do not depend on other images.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _shared(child))


def _shared(norm: nn.BatchNorm2d) -> SharedBatchNorm:
    shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(shared, name, getattr(norm, name))
    return shared.train(norm.training)
