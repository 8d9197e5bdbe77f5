"""The endless stream of positions."""

from __future__ import annotations

from itertools import islice

import pytest

from cis_seg.data.sampler import EvalSampler, Place, TrainBatchSampler
from cis_seg.errors import ConfigError


def _batches(count: int, **options: int) -> list[list[Place]]:
    defaults = {"num_images": 10, "global_batch": 8, "seed": 3}
    return list(islice(TrainBatchSampler(**{**defaults, **options}), count))


def test_positions_are_consecutive_and_every_epoch_is_one_shuffle() -> None:
    places = [place for batch in _batches(10) for place in batch]
    assert [position for position, _ in places] == list(range(80))
    epochs = [[index for _, index in places[start : start + 10]] for start in range(0, 80, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert _batches(10) == _batches(10) != _batches(10, seed=4)


def test_a_batch_may_be_larger_than_the_data_set() -> None:
    (batch,) = _batches(1, num_images=3)
    assert sorted(index for _, index in batch[:3]) == sorted(index for _, index in batch[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("start", [1, 4, 9])
def test_resumed_run_sees_the_same_batches(start: int) -> None:
    assert _batches(6, start_step=start) == _batches(start + 6)[start:]
    assert _batches(6, start_step=start, accumulate=2) == _batches(2 * start + 6, accumulate=2)[2 * start :]


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 2), (2, 1), (4, 1), (2, 2), (2, 4), (8, 1)])
def test_ranks_and_micro_batches_cut_the_batch_of_one_process(world_size: int, accumulate: int) -> None:
    whole = _batches(5, start_step=2)
    ranks = [_batches(5 * accumulate, start_step=2, rank=rank, world_size=world_size, accumulate=accumulate) for rank in range(world_size)]
    parts = [[place for m in range(accumulate) for rank in ranks for place in rank[step * accumulate + m]] for step in range(5)]
    assert parts == whole
    assert {len(batch) for rank in ranks for batch in rank} == {8 // world_size // accumulate}


def test_micro_batches_are_the_same_images_on_any_number_of_ranks() -> None:
    alone = _batches(6, accumulate=2)
    ranks = [_batches(6, accumulate=2, rank=rank, world_size=2) for rank in (0, 1)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == alone


def test_iterating_twice_starts_again() -> None:
    sampler = TrainBatchSampler(num_images=10, global_batch=8, seed=3)
    assert list(islice(sampler, 3)) == list(islice(sampler, 3))


@pytest.mark.parametrize(("batch", "world_size", "accumulate", "remedy"), [(6, 2, 2, 4), (3, 4, 1, 4), (0, 1, 1, 1), (-2, 1, 1, 1)])
def test_indivisible_batch_is_rejected(batch: int, world_size: int, accumulate: int, remedy: int) -> None:
    words = rf"a multiple of {world_size} devices x {accumulate}[\s\S]*{batch}\n[\s\S]*batch_size={remedy}"
    with pytest.raises(ConfigError, match=words):
        TrainBatchSampler(num_images=5, global_batch=batch, seed=0, world_size=world_size, accumulate=accumulate)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed is negative"):
        TrainBatchSampler(num_images=5, global_batch=1, seed=-1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_scoring_covers_every_image_once(world_size: int) -> None:
    samplers = [EvalSampler(num_images=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    places = [place for sampler in samplers for place in sampler]
    assert sorted(places) == [(index, index) for index in range(5)]
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
