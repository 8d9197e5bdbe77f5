"""What all data modules share: batches to train on from any step on, and batches to score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import lightning

from cis_seg.coco.classes import spelling_remedy
from cis_seg.coco.ground_truth import GroundTruth, check_areas, warn_of_maskless
from cis_seg.coco.reader import warn_once
from cis_seg.config.schema import DataConfig, OptimConfig
from cis_seg.data.faults import UnreadableImages, nothing_annotated, unscorable
from cis_seg.data.loader import BatchLoader, ExampleDataset, batch_loader, eval_batches
from cis_seg.data.records import InstanceDataset
from cis_seg.data.sampler import TrainBatchSampler
from cis_seg.data.transforms import TestTransform, TrainTransform
from cis_seg.errors import ConfigError, DataError, listing


@dataclass(frozen=True)
class Layout:
    """Default names of the files and folders of a data set, relative to its root."""

    annotations: str
    images: str
    val_annotations: str
    val_images: str

    def chosen(self, cfg: DataConfig) -> Layout:
        """Return the layout with the names that ``cfg`` sets."""
        given = {option.name: getattr(cfg, option.name) for option in fields(self)}
        return replace(self, **{name: value for name, value in given.items() if value is not None})


class InstanceDataModule(lightning.LightningDataModule):
    """Training and scoring batches of any instance data set; subclasses define where the files are.

    Args:
        cfg: the data set's options.
        layout: the names of its files.
        expected: description of the root folder, for messages.
        optim: global batch and accumulation; ``accumulate`` must equal the trainer's ``accumulate_grad_batches``.
        seed: seed of the order of the images and of every augmentation.
        load_masks: give the training targets masks (for supervision=mask and supervision=mixed).
        optional_masks: of these masks, any may be absent or have a score (for supervision=mixed).

    Attributes:
        val_annotations: the COCO json of the held-out set; available before any file is read.
        files: purpose -> annotation file and image folder, for every file that may be read.
        train_transform: converts a sample to a training example.
    """

    def __init__(
        self,
        cfg: DataConfig,
        layout: Layout,
        expected: str,
        *,
        optim: OptimConfig | None,
        seed: int,
        load_masks: bool,
        optional_masks: bool,
    ) -> None:
        super().__init__()
        optim = optim or OptimConfig()
        self.cfg, self.seed, self.load_masks, self.optional_masks = cfg, seed, load_masks, optional_masks
        self.batch_size, self.accumulate = optim.batch_size, optim.accumulate
        self.root, self._expected = Path(cfg.root).expanduser(), expected
        self.train_transform = TrainTransform(
            sizes=_train_sizes(cfg),
            max_size=cfg.train_max_size,
            flip=cfg.flip,
            photometric=cfg.photometric,
            seed=seed,
            half_size=cfg.half_size_steps * optim.batch_size,
        )
        self._test_transform = TestTransform(size=cfg.test_size, max_size=cfg.test_max_size)
        self._train = self._path(layout.annotations), self._path(layout.images)
        self.val_annotations, self._val_images = self._path(layout.val_annotations), self._path(layout.val_images)
        self.files = {"train": self._train, "val": (self.val_annotations, self._val_images)}
        self._datasets: dict[str, InstanceDataset] = {}

    @property
    def train_dataset(self) -> InstanceDataset:
        """The images to train on."""
        return self._dataset("train")

    @property
    def val_dataset(self) -> InstanceDataset:
        """The held-out images to score, including those without annotations."""
        return self._dataset("val")

    @property
    def scored_train_dataset(self) -> InstanceDataset:
        """The training images as a scored set."""
        return self._dataset("scored_train")

    @property
    def scored_datasets(self) -> list[InstanceDataset]:
        """The data sets of the validation loaders: the held-out images, then the training images if ``score_train`` is set."""
        return [self.val_dataset, *([self.scored_train_dataset] if self.cfg.score_train else [])]

    @property
    def val_ground_truths(self) -> list[Path]:
        """The COCO json of each scored set."""
        return [dataset.source for dataset in self.scored_datasets]

    def ground_truth(self, path: Path, categories: Sequence[str] | None) -> GroundTruth:
        """Read the ground truth of a scored set; no pixel is read.

        Args:
            path: its annotation file, one of ``val_ground_truths``.
            categories: names of the categories to score, in label order; None: all of the file.
        """
        return GroundTruth(path, categories)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.val_dataset.class_names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Id of each label in the held-out ground truth, for results files."""
        return self.val_dataset.category_ids

    def annotated_files(self, *parts: str) -> dict[str, tuple[Path, Path]]:
        """Return those of ``files`` (or of its ``parts``) that exist, or that the config names: these must exist.

        Raises:
            DataError: there is none.
        """
        named = {"train": self.cfg.annotations, "val": self.cfg.val_annotations}
        asked = {part: self.files[part] for part in parts or self.files}
        existing = {part: files for part, files in asked.items() if named.get(part) is not None or files[0].is_file()}
        if not existing:
            raise DataError(
                "the data set has no annotation file",
                where=self.root,
                expected=" or ".join(str(annotations) for annotations, _ in asked.values()),
                found=f"in {self.root}: {listing(self.root)}",
                remedy="set data.root, data.annotations or data.val_annotations",
            )
        return existing

    def setup(self, stage: str) -> None:
        """Read the annotation files that ``stage`` needs, so that errors show before the first step.

        Raises:
            DataError: a file is missing or corrupt, or the sets have different classes.
        """
        used = [*self.scored_datasets, *([self.train_dataset] if stage == "fit" else [])]
        for dataset in used:
            if dataset.class_names != self.class_names:
                raise DataError(
                    "training and scored images have different categories",
                    where=dataset.source,
                    found=dataset.class_names,
                    expected=f"{self.class_names}, as in {self.val_dataset.source}",
                    remedy=spelling_remedy(dataset.class_names, self.class_names)
                    or "choose the same categories for both with data.categories=[...]",
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
        if self._rank()[0] == 0:
            for dataset in {used_as.source: used_as for used_as in used}.values():
                _warn_of_turned_photos(dataset)
            for dataset in self.scored_datasets:
                warn_of_maskless(*dataset.maskless, dataset.source)

    def check_scored(self, area: str) -> None:
        """Check everything that will be scored, so that no error shows only at the first validation; of images, headers and ends are read.

        Args:
            area: ``eval.area``.

        Raises:
            DataError: a scored set without annotations or areas, or with images that are missing, corrupt or of another size.
        """
        for dataset in self.scored_datasets:
            if not len(dataset.records.labels):
                remedy = "set data.val_annotations to the held-out images' annotations, for example a part of the training set"
                names, ignored = dataset.class_names[:5], len(dataset.records.ignore_boxes)
                raise nothing_annotated("the images to score have no annotations", dataset.source, names, len(dataset), ignored, remedy)
            check_areas(dataset.arealess, area, dataset.source)
            if faulty := dataset.faulty_images():
                raise unscorable(list(faulty.values()), len(dataset), dataset.source)

    def train_dataloader(self) -> BatchLoader:
        """Return an endless loader of this process's micro-batches, starting at the trainer's step.

        Raises:
            ConfigError: the global batch does not divide into equal parts, or the trainer accumulates otherwise.
        """
        trainer = self.trainer
        accumulated = self.accumulate if trainer is None else trainer.accumulate_grad_batches
        if accumulated != self.accumulate:
            raise ConfigError(
                "the trainer and the data module use different gradient accumulation",
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
            workers=self.cfg.workers,
            timeout=self.cfg.worker_timeout,
            unreadable=UnreadableImages(self.train_dataset.source, len(self.train_dataset), self.cfg.max_faulty),
        )

    def val_dataloader(self) -> list[BatchLoader]:
        """Return one loader per scored set, in the order of ``scored_datasets``; each image is loaded once."""
        return [self._scoring_loader(dataset) for dataset in self.scored_datasets]

    def _scoring_loader(self, dataset: InstanceDataset) -> BatchLoader:
        batches = eval_batches(len(dataset), self.cfg.test_batch_size, *self._rank())
        return batch_loader(
            ExampleDataset(dataset, self._test_transform), batches, workers=self.cfg.workers, timeout=self.cfg.worker_timeout
        )

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _dataset(self, part: str) -> InstanceDataset:
        if part not in self._datasets:
            if not self.root.is_dir():
                raise DataError(
                    "there is no such data folder",
                    where=self.root,
                    expected=self._expected,
                    found=f"in {self.root.parent}: {listing(self.root.parent)}",
                    remedy="set data.root to the folder of the data set",
                )
            self._datasets[part] = self._read(part)
        return self._datasets[part]

    def _read(self, part: str) -> InstanceDataset:
        """Read the data set ``train``, ``val`` or ``scored_train``."""
        raise NotImplementedError

    def _path(self, path: Path | str) -> Path:
        return self.root / Path(path).expanduser()


def _warn_of_turned_photos(dataset: InstanceDataset) -> None:
    """Log if boxes seem to be drawn on photos turned by EXIF that are read as stored, or the other way round; and other frames and bits."""
    turned = dataset.turned_photos
    if (problem := turned.problem(dataset.exif)) is not None:
        warn_once(f"{dataset.source}: {'; '.join(problem)}")
    for remark in turned.remarks():
        warn_once(f"{dataset.source}: {remark}")


def _train_sizes(cfg: DataConfig) -> Sequence[int]:
    """Return the shorter sides to draw from.

    Raises:
        ConfigError: a range whose upper end is below its lower end.
    """
    if cfg.train_size_range is None:
        return tuple(cfg.train_sizes)
    low, high = cfg.train_size_range
    if low > high:
        raise ConfigError(
            "the range of the training sizes is empty",
            where="data.train_size_range",
            found=[low, high],
            expected="the smallest and the largest side",
            remedy="for example data.train_size_range=[384,480]",
        )
    return range(low, high + 1)
