"""BatchNorm over the images of all processes, so that a run on several devices gives the results of a run on one.

Legend: B this process's images, C channels, h w.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cis_seg.ops.precision import at_least_float32
from cis_seg.runtime.collectives import number_of_processes, sum_over_processes


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
