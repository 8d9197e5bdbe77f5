"""Numbers that several processes of one training run share; in a single process they are its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def number_of_processes() -> int:
    """Processes of a distributed run; 1 where there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of ``values`` over all processes of a distributed run; ``values`` itself in a single process."""
    if number_of_processes() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / number_of_processes()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of ``values`` over all processes, through which gradients flow back to each; ``values`` itself in a single process."""
    if number_of_processes() == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """A sum over processes has the sum over processes as its derivative: each one's loss depends on every one's values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
