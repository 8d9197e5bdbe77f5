"""A training step from its first image until its figures have reached the host, a step later."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cis_seg.structures import Batch


@dataclass(frozen=True)
class Figures:
    """What a step amounted to, on the host."""

    bad: bool
    gradient_norm: float  # before clipping
    losses: list[dict[str, float]]  # of each micro-batch: the weighted sum under ``loss``, and its raw terms


class WatchedStep:
    """What is known of a step; its tensors stay on the device.

    Args:
        number: counted from 1.
        lr: its learning rate.
        statistics: what its forward pass changes beside the weights: running statistics of norms.
    """

    def __init__(self, number: int, lr: float, statistics: list[Tensor]) -> None:
        self.number, self.lr = number, lr
        self._statistics = [(buffer, buffer.clone()) for buffer in statistics]
        self.batches: list[Batch] = []
        self.losses: list[dict[str, Tensor]] = []
        self.sums: list[Tensor] = []  # what each backward pass begins with
        self._judged = torch.zeros(2)
        self._host: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    @property
    def image_ids(self) -> list[int]:
        """Of all micro-batches."""
        return [image_id for batch in self.batches for image_id in batch.image_ids]

    def judge(self, bad: Tensor, gradient_norm: Tensor) -> None:
        """Keeps whether the step is bad (1) or not (0) and its norm, two scalars; a bad step's statistics are taken back."""
        self._judged = torch.stack([bad, gradient_norm.float()])
        for buffer, before in self._statistics if bad.is_cuda or bad else ():
            buffer.copy_(torch.where(bad > 0, before, buffer))

    def send(self) -> None:
        """Begins the one copy to the host; nobody waits for it."""
        losses = [value.float() for part in self.losses for value in part.values()]
        values = torch.cat([self._judged, torch.stack(losses)])
        self._host = values.to("cpu", non_blocking=True)
        if values.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def receive(self) -> Figures:
        """The figures; a step later the copy is long done."""
        if self._copied is not None:
            self._copied.synchronize()
        assert self._host is not None
        bad, norm, *losses = self._host.tolist()
        values = iter(losses)
        return Figures(bad > 0, norm, [{name: next(values) for name in part} for part in self.losses])
