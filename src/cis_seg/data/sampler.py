"""The order of the images: an endless stream of positions that depends only on the seed.

Position p = 0, 1, 2, ... is the p-th image the training sees, over all devices. Epoch p // n is one shuffle of the n
images by f(seed, epoch). Step s trains on positions s B .. s B + B - 1 for any number of devices, and a run resumed at
step s needs no other state than s.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from cis_seg.errors import ConfigError

Place = tuple[int, int]  # (position in the stream, index of the image)


class TrainBatchSampler(Sampler[list[Place]]):
    """Endless micro-batches of (position, index) for one process.

    The global batch of step s is split into ``accumulate`` consecutive micro-batches, and each of these into one consecutive
    part per rank. So the union over ranks and micro-batches of a step is the batch of a single process, and micro-batch m of
    R ranks together is micro-batch m of one rank.

    Args:
        num_images: n, size of the data set.
        global_batch: B, images of one optimiser step over all processes.
        seed: shuffles the epochs; 0 or more.
        start_step: the first optimiser step.
        rank: this process, from 0.
        world_size: number of processes.
        accumulate: micro-batches of one optimiser step.

    Raises:
        ConfigError: ``global_batch`` cannot be split into equal parts, or ``seed`` is negative.
    """

    def __init__(
        self, *, num_images: int, global_batch: int, seed: int, start_step: int = 0, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> None:
        parts = world_size * accumulate
        if global_batch < 1 or global_batch % parts:
            nearest = max(global_batch // parts, 1) * parts
            raise ConfigError(
                "the global batch cannot be split into equal parts",
                where="optim.batch_size",
                found=global_batch,
                expected=f"a multiple of {world_size} devices x {accumulate} accumulated batches = {parts}",
                remedy=f"set optim.batch_size={nearest}, or change the devices or the accumulation",
            )
        if seed < 0:
            raise ConfigError("the seed is negative", where="seed", expected="0 or more", found=seed, remedy="choose another seed")
        assert num_images > 0
        assert start_step >= 0
        assert 0 <= rank < world_size
        self.num_images, self.global_batch, self.seed, self.start_step = num_images, global_batch, seed, start_step
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[list[Place]]:
        micro = self.global_batch // self.accumulate
        part = micro // self.world_size
        first = self.start_step * self.global_batch + self.rank * part
        while True:
            yield [(position, self.index(position)) for position in range(first, first + part)]
            first += micro

    def index(self, position: int) -> int:
        """The image at ``position`` of the stream."""
        epoch, place = divmod(position, self.num_images)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _shuffled(self.num_images, self.seed, epoch)
        return int(self._order[place])


class EvalSampler(Sampler[Place]):
    """Every image once, in order, each on exactly one process: rank r of R takes images r, r + R, ..."""

    def __init__(self, *, num_images: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, num_images, world_size)

    def __iter__(self) -> Iterator[Place]:
        return ((index, index) for index in self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _shuffled(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(num_images)
