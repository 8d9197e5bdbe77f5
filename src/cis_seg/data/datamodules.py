"""Data modules of the supported formats; they define where the files of a data set are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.reader import missing_json
from cis_seg.config.schema import CocoData, CrowdHumanData, OptimConfig
from cis_seg.data.coco import CocoDataset
from cis_seg.data.crowdhuman import CrowdHumanDataset
from cis_seg.data.crowdhuman_truth import ODGT, crowdhuman_truth
from cis_seg.data.instance_datamodule import InstanceDataModule, Layout
from cis_seg.data.records import InstanceDataset
from cis_seg.errors import ConfigError, DataError, listing

COCO_2017 = Layout("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017")
CROWDHUMAN = Layout("annotation_train.odgt", "Images", "masks_val.json", "Images")
#: COCO json of CrowdHuman's training images with masks
MASKS_TRAIN = "masks_train.json"


class CocoDataModule(InstanceDataModule):
    """A pair of COCO json files, by default named as in COCO 2017. The arguments are those of ``InstanceDataModule``."""

    cfg: CocoData

    def __init__(
        self, cfg: CocoData, *, optim: OptimConfig | None = None, seed: int = 0, load_masks: bool = False, optional_masks: bool = False
    ) -> None:
        layout = COCO_2017.chosen(cfg)
        names = ", ".join((layout.annotations, layout.images, layout.val_annotations, layout.val_images))
        expected = f"a folder with {names}"
        super().__init__(cfg, layout, expected, optim=optim, seed=seed, load_masks=load_masks, optional_masks=optional_masks)

    def _read(self, part: str) -> InstanceDataset:
        if part == "val":
            files = self._existing("data.val_annotations", self.val_annotations), self._val_images
            return CocoDataset(*files, categories=self.cfg.categories, keep_empty=True, scored=True, exif=self.cfg.exif)
        return CocoDataset(
            self._existing("data.annotations", self._train[0]),
            self._train[1],
            categories=self.cfg.categories,
            keep_empty=self.cfg.keep_empty,
            load_masks=self.load_masks and part == "train",
            optional_masks=self.optional_masks and part == "train",
            scored=part != "train",
            exif=self.cfg.exif,
        )

    def _existing(self, option: str, annotations: Path) -> Path:
        """Return the file that ``option`` sets.

        Raises:
            DataError: it does not exist.
        """
        if not annotations.is_file():
            raise missing_json(annotations, "the annotation file", f"set {option}, a path relative to data.root")
        return annotations


class CrowdHumanDataModule(InstanceDataModule):
    """CrowdHuman's layout, also used by the generated crowd, with the single class person.

    The arguments are those of ``InstanceDataModule``. Training reads the ``.odgt`` file. Masks for scoring and for training
    are read from COCO json files: the generated crowd includes them, CrowdHuman does not (CIS.json covers 459 validation images).
    ``load_masks`` trains on ``data.annotations`` if that is a ``.json``, otherwise on ``masks_train.json``, and ``score_train`` reads
    the latter. An ``.odgt`` file can be scored too,
    by its boxes ``data.boxes``.
    """

    cfg: CrowdHumanData

    def __init__(
        self,
        cfg: CrowdHumanData,
        *,
        optim: OptimConfig | None = None,
        seed: int = 0,
        load_masks: bool = False,
        optional_masks: bool = False,
    ) -> None:
        layout = CROWDHUMAN.chosen(cfg)
        expected = f"a folder with {layout.annotations}, {layout.images}/<ID>.jpg and, to score, {layout.val_annotations}"
        super().__init__(cfg, layout, expected, optim=optim, seed=seed, load_masks=load_masks, optional_masks=optional_masks)
        self._masks_train = self._path(MASKS_TRAIN)
        self.files = {"train": self.files["train"], "masks_train": (self._masks_train, self._train[1]), "val": self.files["val"]}
        if self.load_masks and cfg.boxes != "visible":
            raise ConfigError(
                f"{cfg.boxes} boxes cannot be combined with masks, which cover only the visible part of a person",
                where="data.boxes",
                expected="visible",
                found=cfg.boxes,
                remedy="train from masks with data.boxes=visible",
            )

    def ground_truth(self, path: Path, categories: Sequence[str] | None) -> GroundTruth:
        return crowdhuman_truth(path, categories, images=self._val_images, boxes=self.cfg.boxes, exif=self.cfg.exif)

    def check_scored(self, area: str) -> None:
        super().check_scored(area)
        self.ground_truth(self.val_annotations, self.class_names)  # refuses boxes of another kind

    def _read(self, part: str) -> InstanceDataset:
        if part == "val" and self.val_annotations.suffix == ODGT:
            boxes, exif = self.cfg.boxes, self.cfg.exif
            return CrowdHumanDataset(
                self.val_annotations, self._val_images, boxes=boxes, keep_empty=True, ignore_regions=False, max_faulty=0, exif=exif
            )
        annotations, images = self._train
        if part == "val":
            return self._masked(self.val_annotations, self._val_images, keep_empty=True, load_masks=False)
        if part == "train" and not self.load_masks:
            return CrowdHumanDataset(
                annotations,
                images,
                boxes=self.cfg.boxes,
                keep_empty=self.cfg.keep_empty,
                ignore_regions=self.cfg.ignore_regions,
                max_faulty=self.cfg.max_faulty,
                exif=self.cfg.exif,
            )
        masks = annotations if part == "train" and annotations.suffix == ".json" else self._masks_train
        return self._masked(masks, images, keep_empty=self.cfg.keep_empty, load_masks=part == "train")

    def _masked(self, annotations: Path, images: Path, *, keep_empty: bool, load_masks: bool) -> CocoDataset:
        if not annotations.is_file():
            remedy = "CrowdHuman has no masks: set data.val_annotations to CIS.json, or to annotation_val.odgt to score boxes"
            raise DataError(
                "there is no COCO json with masks",
                where=annotations,
                expected="the masks of the images",
                found=f"json files in {annotations.parent}: {listing(annotations.parent, '*.json')}",
                remedy=remedy,
            )
        return CocoDataset(
            annotations,
            images,
            categories=["person"],
            keep_empty=keep_empty,
            load_masks=load_masks,
            optional_masks=load_masks and self.optional_masks,
            scored=not load_masks,
            ignore_regions=self.cfg.ignore_regions,
            exif=self.cfg.exif,
        )
