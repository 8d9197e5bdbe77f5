"""DataLoaders whose errors stay readable on their way out of a worker process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from cis_seg.data.batches import collate
from cis_seg.data.faults import ATTEMPTS, Unreadable, UnreadableImages, none_is_left, not_scored, substitute
from cis_seg.data.records import InstanceDataset, Sample
from cis_seg.data.sampler import EvalSampler, Place, TrainBatchSampler
from cis_seg.data.transforms import Example
from cis_seg.data.workers import BROKEN, TIMEOUT, Watch, ignore_terminal_signals
from cis_seg.errors import DataError
from cis_seg.runtime.compat import KillsWorkers, worker_processes
from cis_seg.structures import Batch


@dataclass(frozen=True)
class Loaded:
    """An example or a batch, and the images that could not be read on the way to it."""

    content: Any  # Example, or Batch once collated; None if every image that was tried is unreadable
    unreadable: tuple[Unreadable, ...]

    def pin_memory(self) -> Loaded:
        """A copy in page-locked memory (called by the DataLoader)."""
        return self if self.content is None else replace(self, content=self.content.pin_memory())


class ExampleDataset(Dataset[Loaded]):
    """A data set seen through a transform, indexed by (position, index).

    A ``DataError`` is returned instead of raised, because torch would wrap it into the text of two tracebacks on its way out
    of a worker. ``BatchLoader`` handles it in the main process.

    Args:
        dataset: the images.
        transform: from a sample and its position to an example.
        seed: of the images that replace unreadable ones; None replaces nothing.
    """

    def __init__(self, dataset: InstanceDataset, transform: Callable[[Sample, int], Example], *, seed: int | None = None) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> Loaded:
        position, index = place
        unreadable: list[Unreadable] = []
        for attempt in range(1 if self.seed is None else ATTEMPTS):
            chosen = index if self.seed is None or attempt == 0 else substitute(len(self), self.seed, position, attempt)
            try:
                return Loaded(self.transform(self.dataset.sample(chosen), position), tuple(unreadable))
            except DataError as error:
                unreadable.append(Unreadable.from_error(self.dataset.path(chosen), error))
        return Loaded(None, tuple(unreadable))


class BatchLoader(KillsWorkers, DataLoader[Batch]):
    """A DataLoader over ``ExampleDataset`` that handles the faults of its workers in the main process. After an error it has no workers."""

    unreadable: UnreadableImages | None = None  # counts unreadable images; None: every image must be readable

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        batches: Any = super().__iter__()
        watch = Watch(worker_processes(batches) if self.num_workers else [], self.timeout)
        try:
            for number in count():
                try:
                    with watch:
                        loaded: Loaded = next(batches)
                except StopIteration:
                    return
                except (RuntimeError, *BROKEN) as error:
                    explained = watch.explain(error, self._paths(number))
                    if explained is None:
                        raise
                    raise explained from error
                if loaded.unreadable:
                    self._settle(loaded)
                yield loaded.content
        except Exception:
            self.close()  # otherwise the workers live as long as the traceback
            raise
        finally:
            watch.stop()

    def _settle(self, loaded: Loaded) -> None:
        if self.unreadable is None:
            raise not_scored(loaded.unreadable[0])
        self.unreadable.add(loaded.unreadable)
        if loaded.content is None:
            raise none_is_left(loaded.unreadable)

    def _paths(self, number: int) -> list[Path]:
        """The images of batch ``number`` of this pass."""
        dataset: Any = self.dataset
        return [dataset.dataset.path(index) for _, index in next(islice(iter(self.batch_sampler), number, None), [])]  # type: ignore[arg-type]


def batch_loader(
    dataset: ExampleDataset,
    batches: TrainBatchSampler | BatchSampler,
    *,
    workers: int,
    timeout: float = TIMEOUT,
    unreadable: UnreadableImages | None = None,
) -> BatchLoader:
    """Batches of ``dataset`` in the order of ``batches``.

    Args:
        dataset: the images.
        batches: their order.
        workers: processes that read; 0 reads in this one.
        timeout: seconds to wait for a batch, 0 forever.
        unreadable: counts the images that cannot be read; None stops at the first.
    """
    loader = BatchLoader(
        dataset,  # type: ignore[arg-type]  # its items become a Batch only when collated
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_use_one_thread,
        persistent_workers=workers > 0,
        timeout=timeout if workers else 0,  # because a single process cannot watch itself
    )
    loader.unreadable = unreadable
    return loader


def eval_batches(num_images: int, batch_size: int, rank: int, world_size: int) -> BatchSampler:
    """Every image once over all ranks, in batches of ``batch_size``."""
    return BatchSampler(EvalSampler(num_images=num_images, rank=rank, world_size=world_size), batch_size, drop_last=False)  # type: ignore[arg-type]


def _collate(examples: Sequence[Loaded]) -> Loaded:
    unreadable = tuple(image for example in examples for image in example.unreadable)
    whole = all(example.content is not None for example in examples)
    return Loaded(collate([example.content for example in examples]) if whole else None, unreadable)


def _use_one_thread(_worker: int) -> None:
    """Set up a worker: it is one process of many, and more threads would only compete for the cores."""
    ignore_terminal_signals()
    torch.set_num_threads(1)
    if "cv2" in sys.modules:  # its threads, too
        sys.modules["cv2"].setNumThreads(0)
