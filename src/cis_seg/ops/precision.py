"""The precision in which losses and colours are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` as float32, or as float64 where it is that already (gradient checks): sums over a mask lose digits in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
