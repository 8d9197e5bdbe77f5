"""Reductions over the processes of a distributed run. In a single process they return their input."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def number_of_processes() -> int:
    """Return the number of processes of a distributed run; 1 if the run is not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of ``values`` over all processes, without gradients; ``values`` itself in a single process."""
    if number_of_processes() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / number_of_processes()


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over all processes, with gradients for each; ``values`` itself in a single process."""
    if number_of_processes() == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """The gradient of a sum over processes is the sum of their gradients, because the loss of each depends on the values of all."""

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
