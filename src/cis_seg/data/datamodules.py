"""LightningDataModules of the formats: where the files of a data set lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from cis_seg.data.coco import CocoDataset
from cis_seg.data.crowdhuman import BoxKind, CrowdHumanDataset
from cis_seg.data.instance_datamodule import InstanceDataModule, LoadingOptions
from cis_seg.data.records import InstanceDataset
from cis_seg.errors import ConfigError, DataError, listing


class CocoDataModule(InstanceDataModule):
    """Any pair of COCO jsons; the defaults are the names of COCO 2017.

    Args:
        root: folder of the data set.
        annotations, images: json and image folder to train on, relative to ``root`` unless absolute.
        annotations_val, images_val: the same to score.
        categories: names of the categories to keep; None keeps all.
        keep_empty: also train on images that have no annotation of these categories.
        options: as ``InstanceDataModule``.
    """

    def __init__(
        self,
        *,
        root: Path | str,
        annotations: Path | str = "annotations/instances_train2017.json",
        images: Path | str = "train2017",
        annotations_val: Path | str = "annotations/instances_val2017.json",
        images_val: Path | str = "val2017",
        categories: Sequence[str] | None = None,
        keep_empty: bool = False,
        **options: Unpack[LoadingOptions],
    ) -> None:
        layout = ", ".join(map(str, (annotations, images, annotations_val, images_val)))
        super().__init__(root=root, layout=f"a folder with {layout}", **options)
        self._train = self._path(annotations), self._path(images)
        self.val_annotations, self._val_images = self._path(annotations_val), self._path(images_val)
        self.files = {"train": self._train, "val": (self.val_annotations, self._val_images)}
        self._categories, self._keep_empty = categories, keep_empty

    def _read(self, part: str) -> InstanceDataset:
        if part == "val":
            return CocoDataset(self.val_annotations, self._val_images, categories=self._categories, keep_empty=True)
        return CocoDataset(
            *self._train, categories=self._categories, keep_empty=self._keep_empty, load_masks=self.load_masks and part == "train"
        )


class CrowdHumanDataModule(InstanceDataModule):
    """CrowdHuman's own layout, which the generated crowd shares; one class: person.

    Training reads the ``.odgt``. Masks, for scoring and for supervision=mask, come from COCO jsons beside it: the
    generated crowd has them, CrowdHuman itself has not (CIS.json holds those of 459 validation images).

    Args:
        root: folder of the data set.
        annotations: the ``.odgt`` to train on, relative to ``root`` unless absolute; likewise the others.
        images: folder with ``<ID>.jpg``.
        boxes: ``visible``, ``full`` or ``head`` boxes.
        keep_empty: also train on images without a person.
        ignore_regions: background inside a ignore region (a crowd, a statue, a reflection, a person marked as such) does not train.
        annotations_val: COCO json to score.
        images_val: folder that its file names are relative to.
        masks_train: COCO json of the training images with masks; read only for ``load_masks`` and ``score_train``.
        options: as ``InstanceDataModule``; ``max_faulty`` also counts for the records, see ``CrowdHumanDataset``.
    """

    def __init__(
        self,
        *,
        root: Path | str,
        annotations: Path | str = "annotation_train.odgt",
        images: Path | str = "Images",
        boxes: BoxKind = "visible",
        keep_empty: bool = False,
        ignore_regions: bool = True,
        annotations_val: Path | str = "masks_val.json",
        images_val: Path | str = "Images",
        masks_train: Path | str = "masks_train.json",
        **options: Unpack[LoadingOptions],
    ) -> None:
        layout = f"a folder with {annotations}, {images}/<ID>.jpg and, to score, {annotations_val}"
        super().__init__(root=root, layout=layout, **options)
        self._train = self._path(annotations), self._path(images)
        self.val_annotations, self._val_images = self._path(annotations_val), self._path(images_val)
        self._masks_train, self._boxes, self._keep_empty = self._path(masks_train), boxes, keep_empty
        self._ignore_regions = ignore_regions
        self.files = {
            "train": self._train,
            "masks_train": (self._masks_train, self._train[1]),
            "val": (self.val_annotations, self._val_images),
        }
        if self.load_masks and boxes != "visible":
            raise ConfigError(
                f"masks show what is seen of a person, {boxes} boxes something else",
                where="data.boxes",
                expected="visible",
                found=boxes,
                remedy="train from masks with boxes=visible",
            )

    def _read(self, part: str) -> InstanceDataset:
        if part == "val":
            return self._masked(self.val_annotations, self._val_images, keep_empty=True, load_masks=False)
        if part == "train" and not self.load_masks:
            return CrowdHumanDataset(
                *self._train,
                boxes=self._boxes,
                keep_empty=self._keep_empty,
                ignore_regions=self._ignore_regions,
                max_faulty=self.max_faulty,
            )
        return self._masked(self._masks_train, self._train[1], keep_empty=self._keep_empty, load_masks=part == "train")

    def _masked(self, annotations: Path, images: Path, *, keep_empty: bool, load_masks: bool) -> CocoDataset:
        if not annotations.is_file():
            remedy = "CrowdHuman itself has no masks: name CIS.json, or a json that scripts/crowdhuman_to_coco.py wrote (boxes alone)"
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
            ignore_regions=self._ignore_regions,
        )
