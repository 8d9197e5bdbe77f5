"""Networks of torchvision with the statistics of a trained one."""

from __future__ import annotations

import torch
from torch import nn


def randomise_norms(network: nn.Module) -> None:
    """Statistics as training leaves them; fresh ones (0 and 1) would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.get_buffer("running_var"), module.weight.data):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
            for values in (module.get_buffer("running_mean"), module.bias.data):
                values.copy_(torch.randn(values.shape, generator=generator) * 0.1)
