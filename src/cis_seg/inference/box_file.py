"""The boxes that need masks, of a COCO json or of labels in another format: every annotation is checked and kept as it is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.coco.boxes import Box, corners, inside
from cis_seg.coco.entries import Needs
from cis_seg.coco.file_names import near_file
from cis_seg.coco.reader import CocoFile, read_coco
from cis_seg.data.formats.reading import is_label_set, read_labels
from cis_seg.data.records import missing_folder
from cis_seg.errors import ConfigError, DataError, listing

log = logging.getLogger(__name__)

_SHOWN = 5  # missing files in a message


@dataclass(frozen=True)
class BoxedImage:
    """One image and its annotations."""

    entry: dict[str, Any]  # of 'images', as the file has it
    path: Path
    size: tuple[int, int]  # (height, width) that the annotations are made for
    annotations: tuple[dict[str, Any], ...]  # as the file has them, crowd regions included

    def box(self, annotation: dict[str, Any]) -> Box | None:
        """The part of an annotation's box inside the image, xyxy in pixels; None if that is empty, and for a crowd region."""
        whole = None if annotation.get("iscrowd") else corners(annotation["bbox"])
        return None if whole is None else inside(whole, self.size)


@dataclass(frozen=True)
class BoxFile:
    """The whole file."""

    path: Path
    images: tuple[BoxedImage, ...]  # in the file's order, those without annotations included
    categories: dict[int, str]  # category id -> name
    content: dict[str, Any]  # the other keys of the file: categories, info, licenses, ...
    folder: Path  # that file names are relative to
    kind: str = "COCO"  # or YOLO, VOC, labelme


def read_box_file(path: Path, images: Path | None = None, exif: str | None = None) -> BoxFile:
    """The images and boxes of a COCO json, or of YOLO, VOC or labelme labels (``data.formats.reading``).

    Masks are not needed, and not checked if present. All faults are found here, before the first image is read.

    Args:
        path: the json, a folder of labels, or YOLO's ``data.yaml``.
        images: the folder of the photos; needed for a json.
        exif: ``apply`` or ``ignore``; None is ``apply`` for labels and ``ignore`` for a json.

    Raises:
        DataError: a file or folder is missing, or an id, a size or a box is invalid; the message names the annotation.
    """
    if is_label_set(path):
        labels = read_labels(path, images=images, exif=exif or "apply")
        log.info("%s", labels.summary())
        return _box_file(labels.checked(Needs(folder=labels.images)), labels.images, labels.kind)
    if images is None:
        raise ConfigError(
            "the folder of the photos is not set",
            where="images",
            expected="images=FOLDER",
            remedy="a COCO json does not name the folder: set it",
        )
    return _box_file(read_coco(path, Needs(folder=images)), images, "COCO")


def _box_file(file: CocoFile, images: Path, kind: str) -> BoxFile:
    annotations: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in file.images}
    for annotation in file.annotations:
        annotations[annotation.image_id].append(annotation.entry)
    boxed = tuple(
        BoxedImage(entry, images / entry["file_name"], file.image_size(image_id), tuple(annotations[image_id]))
        for image_id, entry in file.images.items()
    )
    _check_files(file.path, images, [image.entry["file_name"] for image in boxed if image.annotations])
    return BoxFile(file.path, boxed, file.categories, file.others, images, kind)


def _check_files(source: Path, folder: Path, names: list[str]) -> None:
    if not names:
        raise DataError("the file has no boxes", where=source, expected="'annotations' with a bbox each", found="none")
    if not folder.is_dir():
        raise missing_folder(folder, source, "images=FOLDER")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(names)} images with boxes are missing",
            where=folder,
            expected=", ".join(missing[:_SHOWN]) + more,
            found=near_file(folder, missing[0]) or listing(folder, most=5),
            remedy="images=FOLDER is the folder that the file names are relative to: give another, complete it, or correct the names",
        )
