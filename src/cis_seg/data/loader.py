"""DataLoaders of batches, whose errors stay readable on their way out of a worker process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from cis_seg.data.collate import collate
from cis_seg.data.records import InstanceDataset, Sample
from cis_seg.data.sampler import EvalSampler, Place, TrainBatchSampler
from cis_seg.data.transforms import Example
from cis_seg.errors import DataError
from cis_seg.structures import Batch


class ExampleDataset(Dataset[Example | DataError]):
    """A data set seen through a transform, indexed by (position, index).

    A ``DataError`` is returned instead of raised: torch would wrap one that leaves a worker process into the text of
    two tracebacks. ``BatchLoader`` raises it in the main process.
    """

    def __init__(self, dataset: InstanceDataset, transform: Callable[[Sample, int], Example]) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place) -> Example | DataError:
        position, index = place
        try:
            return self.transform(self.dataset.sample(index), position)
        except DataError as error:
            return error


class BatchLoader(DataLoader[Batch]):
    """A DataLoader over ``ExampleDataset`` that raises the errors its workers met."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                try:
                    raise batch
                finally:
                    del batch  # it would hold this frame, and the frame it: the workers would be stopped late, after 5 s
            yield batch


def batch_loader(dataset: ExampleDataset, batches: TrainBatchSampler | BatchSampler, *, workers: int) -> BatchLoader:
    """Batches of ``dataset`` in the order of ``batches``, read by ``workers`` processes (0: by this one)."""
    return BatchLoader(
        dataset,  # type: ignore[arg-type]  # its items become a Batch only when collated
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_use_one_thread,
        persistent_workers=workers > 0,
    )


def eval_batches(num_images: int, batch_size: int, rank: int, world_size: int) -> BatchSampler:
    """Every image once over all ranks, in batches of ``batch_size``."""
    return BatchSampler(EvalSampler(num_images=num_images, rank=rank, world_size=world_size), batch_size, drop_last=False)  # type: ignore[arg-type]


def _collate(examples: Sequence[Example | DataError]) -> Batch | DataError:
    sound: list[Example] = []
    for example in examples:
        if isinstance(example, DataError):
            return example
        sound.append(example)
    return collate(sound)


def _use_one_thread(_worker: int) -> None:
    """Each worker is one process of many: more threads would only fight over the cores."""
    torch.set_num_threads(1)
    if "cv2" in sys.modules:  # albumentations brings it, where pixel-level augmentation is on
        sys.modules["cv2"].setNumThreads(0)
