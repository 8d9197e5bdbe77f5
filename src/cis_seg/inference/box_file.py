"""A COCO json of boxes that wait for masks: every annotation checked, and kept as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.data.checks import Box, inside, listing, parse_box
from cis_seg.data.coco import check_annotation, choose_categories, image_records, read_json
from cis_seg.data.records import missing_folder
from cis_seg.errors import DataError

_SHOWN = 5  # missing files in a message


@dataclass(frozen=True)
class BoxedImage:
    """One image and what is annotated in it."""

    entry: dict[str, Any]  # of 'images', as the file has it
    path: Path
    size: tuple[int, int]  # (height, width) that the annotations are made for
    annotations: tuple[dict[str, Any], ...]  # as the file has them, crowd regions included

    def box(self, annotation: dict[str, Any]) -> Box | None:
        """The part of an annotation's box inside the image, xyxy in pixels; None where that is empty, and for a crowd region."""
        whole = None if annotation.get("iscrowd") else _parsed(annotation, self.path)
        return None if whole is None else inside(whole, self.size)


@dataclass(frozen=True)
class BoxFile:
    """The whole file."""

    path: Path
    images: tuple[BoxedImage, ...]  # in the file's order, those without annotations included
    categories: dict[int, str]  # category id -> name
    content: dict[str, Any]  # the other keys of the file: categories, info, licenses, ...


def read_box_file(path: Path, images: Path) -> BoxFile:
    """The images and boxes of the COCO json ``path``, whose file names are relative to the folder ``images``.

    Masks are not needed, and not looked at where there are some. All mistakes show here, before the first image is read.

    Raises:
        DataError: a file or folder is missing, or an id, a size or a box makes no sense; the message names the annotation.
    """
    content = read_json(path)
    categories = choose_categories(content["categories"], None, path)
    records = image_records(content["images"], path)
    annotations: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in records}
    seen: set[int] = set()
    for annotation in content["annotations"]:
        record = check_annotation(annotation, records, set(categories), seen, path)
        _parsed(annotation, path)
        annotations[record.image_id].append(annotation)
    _check_files(path, images, [images / records[image_id].file_name for image_id, boxes in annotations.items() if boxes])
    boxed = (
        BoxedImage(entry, images / entry["file_name"], records[entry["id"]].size, tuple(annotations[entry["id"]]))
        for entry in content["images"]
    )
    others = {key: value for key, value in content.items() if key not in ("images", "annotations")}
    return BoxFile(path, tuple(boxed), categories, others)


def _parsed(annotation: dict[str, Any], where: Path) -> Box | None:
    return parse_box(annotation.get("bbox"), culprit=f"annotation {annotation['id']} of image {annotation['image_id']}", where=where)


def _check_files(source: Path, folder: Path, paths: list[Path]) -> None:
    if not paths:
        raise DataError("there is no box in the file", where=source, expected="'annotations' with a bbox each", found="none")
    if not folder.is_dir():
        raise missing_folder(folder, source)
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(paths)} images with boxes are missing",
            where=folder,
            expected=", ".join(missing[:_SHOWN]) + more,
            found=listing(folder, most=5),
            remedy="give the folder that the json's file names are relative to, or complete it",
        )
