"""What all data modules share: batches to train on from any step on, and batches to score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

import lightning

from cis_seg.data.faults import MAX_FAULTY, UnreadableImages
from cis_seg.data.loader import BatchLoader, ExampleDataset, batch_loader, eval_batches
from cis_seg.data.records import InstanceDataset
from cis_seg.data.sampler import TrainBatchSampler
from cis_seg.data.transforms import Photometric, TestTransform, TrainTransform
from cis_seg.data.workers import TIMEOUT
from cis_seg.errors import ConfigError, DataError, listing

SizeSampling = Literal["choice", "range"]


class LoadingOptions(TypedDict, total=False):
    """The keywords every data module takes, with the defaults of ``InstanceDataModule``."""

    train_sizes: Sequence[int]
    train_size_sampling: SizeSampling
    train_max_size: int
    test_size: int
    test_max_size: int
    flip: float
    photometric: Photometric
    batch_size: int
    accumulate: int
    test_batch_size: int
    workers: int
    seed: int
    load_masks: bool
    score_train: bool
    worker_timeout: float
    max_faulty: float


class InstanceDataModule(lightning.LightningDataModule):
    """Training and scoring batches of any instance data set; the formats fill in where the files lie.

    Args:
        root: folder of the data set; other paths are relative to it unless absolute.
        train_sizes: shorter sides of the training images in pixels.
        train_size_sampling: ``choice`` draws one of ``train_sizes``, ``range`` any side between its two.
        train_max_size: most for the longer side in training.
        test_size: shorter side in scoring.
        test_max_size: most for the longer side in scoring.
        flip: probability of the horizontal flip in training.
        photometric: pixel-level augmentation: ``none``, ``light`` or ``strong``.
        batch_size: global batch, images of one optimiser step over all devices.
        accumulate: micro-batches of one optimiser step; must equal the trainer's ``accumulate_grad_batches``.
        test_batch_size: images of a scoring batch on each device.
        workers: processes that read images, for each loader; 0 reads in the main process.
        seed: of the order of the images and of every augmentation.
        load_masks: give the training targets masks (for supervision=mask).
        score_train: score the training images as a second set.
        worker_timeout: seconds that a batch of the worker processes is waited for; 0 waits for ever.
        max_faulty: share of the training images that may be unreadable; others take their places. Each image to score must be read.

    Attributes:
        val_annotations: the COCO json of the held-out set; known before any file is read.
        files: every annotation file that may be read and the folder of its images, by what they are for.
        train_transform: from a sample to a training example.
    """

    val_annotations: Path
    files: dict[str, tuple[Path, Path]]

    def __init__(
        self,
        *,
        root: Path | str,
        layout: str,
        train_sizes: Sequence[int] = (640, 672, 704, 736, 768, 800),
        train_size_sampling: SizeSampling = "choice",
        train_max_size: int = 1333,
        test_size: int = 800,
        test_max_size: int = 1333,
        flip: float = 0.5,
        photometric: Photometric = "none",
        batch_size: int = 16,
        accumulate: int = 1,
        test_batch_size: int = 1,
        workers: int = 0,
        seed: int = 0,
        load_masks: bool = False,
        score_train: bool = False,
        worker_timeout: float = TIMEOUT,
        max_faulty: float = MAX_FAULTY,
    ) -> None:
        super().__init__()
        self.root, self._layout = Path(root).expanduser(), layout
        sizes = _sizes(train_sizes, train_size_sampling)
        self.train_transform = TrainTransform(sizes=sizes, max_size=train_max_size, flip=flip, photometric=photometric, seed=seed)
        self._test_transform = TestTransform(size=test_size, max_size=test_max_size)
        self.batch_size, self.accumulate, self.test_batch_size = batch_size, accumulate, test_batch_size
        self.workers, self.seed, self.load_masks, self.score_train = workers, seed, load_masks, score_train
        self.worker_timeout, self.max_faulty = worker_timeout, max_faulty
        self._datasets: dict[str, InstanceDataset] = {}

    @property
    def train_dataset(self) -> InstanceDataset:
        """The images to train on."""
        return self._dataset("train")

    @property
    def val_dataset(self) -> InstanceDataset:
        """The held-out images to score; all of the file, with or without annotations."""
        return self._dataset("val")

    @property
    def scored_train_dataset(self) -> InstanceDataset:
        """The training images as a scored set."""
        return self._dataset("scored_train")

    @property
    def scored_datasets(self) -> list[InstanceDataset]:
        """What the validation loaders read, in their order: the held-out images, then the training images if asked for."""
        return [self.val_dataset, *([self.scored_train_dataset] if self.score_train else [])]

    @property
    def val_ground_truths(self) -> list[Path]:
        """The COCO json of each scored set."""
        return [dataset.source for dataset in self.scored_datasets]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.val_dataset.class_names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Id of each label in the held-out ground truth, for results files."""
        return self.val_dataset.category_ids

    def setup(self, stage: str) -> None:
        """Reads the indices ``stage`` needs, so that mistakes show before the first step.

        Raises:
            DataError: a file is missing or damaged, or the sets disagree on the classes.
        """
        used = [*self.scored_datasets, *([self.train_dataset] if stage == "fit" else [])]
        for dataset in used:
            if dataset.class_names != self.class_names:
                raise DataError(
                    "training and scored images have different categories",
                    where=dataset.source,
                    found=dataset.class_names,
                    expected=f"{self.class_names}, as in {self.val_dataset.source}",
                    remedy="name the categories (categories=[...]) so that both use the same",
                )
        for dataset in self.scored_datasets:
            if dataset.category_ids != self.category_ids:
                raise DataError(
                    "the scored sets number their categories differently",
                    where=dataset.source,
                    found=dataset.category_ids,
                    expected=f"{self.category_ids}, as in {self.val_dataset.source}",
                    remedy="give both the same category ids",
                )

    def train_dataloader(self) -> BatchLoader:
        """Endless micro-batches of this process, from the trainer's step on.

        Raises:
            ConfigError: the global batch cannot be cut into equal parts, or the trainer accumulates otherwise.
        """
        trainer = self.trainer
        accumulated = self.accumulate if trainer is None else trainer.accumulate_grad_batches
        if accumulated != self.accumulate:
            raise ConfigError(
                "trainer and data accumulate differently",
                where="trainer.accumulate_grad_batches",
                found=accumulated,
                expected=self.accumulate,
                remedy="set both to the same number",
            )
        rank, world_size = self._rank()
        batches = TrainBatchSampler(
            num_images=len(self.train_dataset),
            global_batch=self.batch_size,
            seed=self.seed,
            start_step=0 if trainer is None else trainer.global_step,
            rank=rank,
            world_size=world_size,
            accumulate=self.accumulate,
        )
        return batch_loader(
            ExampleDataset(self.train_dataset, self.train_transform, seed=self.seed),
            batches,
            workers=self.workers,
            timeout=self.worker_timeout,
            unreadable=UnreadableImages(self.train_dataset.source, len(self.train_dataset), self.max_faulty),
        )

    def val_dataloader(self) -> list[BatchLoader]:
        """One loader a scored set, each image once: the held-out images, then the training images if asked for."""
        return [self._scoring_loader(dataset) for dataset in self.scored_datasets]

    def _scoring_loader(self, dataset: InstanceDataset) -> BatchLoader:
        batches = eval_batches(len(dataset), self.test_batch_size, *self._rank())
        return batch_loader(ExampleDataset(dataset, self._test_transform), batches, workers=self.workers, timeout=self.worker_timeout)

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _dataset(self, part: str) -> InstanceDataset:
        if part not in self._datasets:
            if not self.root.is_dir():
                raise DataError(
                    "there is no such data folder",
                    where=self.root,
                    expected=self._layout,
                    found=f"in {self.root.parent}: {listing(self.root.parent)}",
                    remedy="set data.root to the folder of the data set",
                )
            self._datasets[part] = self._read(part)
        return self._datasets[part]

    def _read(self, part: str) -> InstanceDataset:
        """The data set of ``train``, ``val`` or ``scored_train``."""
        raise NotImplementedError

    def _path(self, path: Path | str) -> Path:
        return self.root / Path(path).expanduser()


def _sizes(sizes: Sequence[int], sampling: SizeSampling) -> Sequence[int]:
    if sampling == "choice":
        return tuple(sizes)
    if sampling != "range" or len(sizes) != 2 or sizes[0] > sizes[1]:
        raise ConfigError(
            "the training sizes cannot be drawn like this",
            where="data.train_size_range",
            found=f"{sampling} of {list(sizes)}",
            expected="choice, or range with the smallest and the largest side",
            remedy="for example range with [384, 480]",
        )
    return range(sizes[0], sizes[1] + 1)
