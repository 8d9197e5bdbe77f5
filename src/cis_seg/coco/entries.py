"""The checks of the entries of a COCO instance file: categories, images, annotations.

The checks run once for each of up to a million annotations, so the words of a fault are put together only when it is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from cis_seg.coco import rle
from cis_seg.coco.boxes import corners, inside
from cis_seg.coco.checks import check_box, check_file_name, check_mask, has_outline, is_area, is_id, is_side
from cis_seg.coco.spelling import Spelling
from cis_seg.errors import DataError

Json = dict[str, Any]
Reference = tuple[str, int | str]  # ``image_id`` or ``category_id`` and the id, usable or not
_WHOLE = ("id", "image_id", "category_id", "iscrowd")
_REMEDY = "correct the annotation or delete it"
_SHOWN = 100  # category ids in a message: COCO's 80 fit, LVIS's 1203 do not


@dataclass(frozen=True)
class Needs:
    """What a consumer needs, and therefore what is checked. Ids, image sizes, categories and ``iscrowd`` always are.

    Args:
        categories: names of the categories to keep, in the order of the labels; None keeps all, by id. Of annotations of other categories
            only the ids are checked.
        file_names: the images are opened, so each needs a file name inside the image folder.
        boxes: every annotation needs a box; otherwise one that has a mask may do without.
        masks: ``ignored``; ``optional``: well-formed if present; ``required``: also present, for every instance whose box overlaps its
            image (a crowd region needs none).
        areas: ``area``, if present, is a number of pixels.
        folder: the image folder, for messages.
    """

    categories: Sequence[str] | None = None
    file_names: bool = True
    boxes: bool = True
    masks: Literal["ignored", "optional", "required"] = "ignored"
    areas: bool = False
    folder: Path | None = None


class Annotation(NamedTuple):
    """One checked annotation."""

    entry: Json  # as the file has it, numbers in quotes read as numbers
    id: int
    image_id: int
    category_id: int
    box: list[float]  # [x, y, width, height] in pixels of the file; or of the mask, if that may replace it
    crowd: bool


class Checker:
    """Checks entries one by one and keeps those that pass: categories first, then images, then annotations.

    Each method raises a ``DataError`` that names the entry.

    Args:
        path: the file, for messages.
        needs: the checks that apply.
    """

    def __init__(self, path: Path, needs: Needs) -> None:
        self.path, self.needs = path, needs
        self.category_ids: dict[str, int] = {}  # by name
        self.images: dict[int, Json] = {}
        self.annotations: list[Annotation] = []
        self.known: frozenset[int] = frozenset()  # category ids of the file
        self.kept: Collection[int] = ()  # the chosen ones
        self.refused: Collection[Reference] = ()  # to images and categories that did not pass
        self.left_out: Counter[Reference] = Counter()  # annotations that refer to these alone, which would only repeat their fault
        self.spelling = Spelling()
        self._seen: set[int] = set()

    def category(self, entry: Json) -> None:
        """Keep one category."""
        self.spelling.whole(entry, "id")
        number, name = entry.get("id"), entry.get("name")
        if not is_id(number) or not isinstance(name, str) or name in self.category_ids or number in self.category_ids.values():
            other = f"; {name!r} has id {self.category_ids[name]} already" if isinstance(name, str) and name in self.category_ids else ""
            raise DataError(
                "a category is listed twice or lacks its id or name",
                where=self.path,
                found=f"{str(entry)[:200]}{other}",
                expected="different integer ids and different names",
                remedy="delete the one from 'categories' that no annotation uses, or give each its own name"
                if other
                else "correct 'categories'",
            )
        self.category_ids[name] = number

    def image(self, entry: Json) -> None:
        """Keep one image."""
        self.spelling.whole(entry, "id", "width", "height")
        number, height, width = entry.get("id"), entry.get("height"), entry.get("width")
        if not is_id(number) or number in self.images:
            raise DataError(
                f"image {repr(number)[:40]} has no usable id or is listed twice",
                where=self.path,
                expected="a different integer id for each image",
                found=str(entry)[:200],
                remedy="give every image its own id; if the ids are strings, replace them with integers",
            )
        if not is_side(height) or not is_side(width):
            raise DataError(
                f"image {number} has no usable size",
                where=self.path,
                expected="height and width in pixels",
                found=f"height {repr(height)[:40]}, width {repr(width)[:40]}",
                remedy="write the size of the file into the json: boxes are clipped and masks are drawn at that size",
            )
        if self.needs.file_names:
            check_file_name(entry.get("file_name"), culprit=f"image {number}", where=self.path, folder=self.needs.folder)
        self.images[number] = entry

    def annotation(self, entry: Json) -> None:
        """Keep one annotation, unless it is of a category that was not chosen."""
        number, image_id, category_id, crowd = (entry.get(key) for key in _WHOLE)
        if not type(number) is type(image_id) is type(category_id) is type(crowd) is int:
            self.spelling.whole(entry, *_WHOLE)
            number, image_id, category_id, crowd = (entry.get(key) for key in _WHOLE)
        if not is_id(number) or number in self._seen:
            problem = "is listed twice" if is_id(number) else "has no usable id"
            found = f"id {number!r}, of image_id {image_id!r}"
            self._refuse(number, problem, "a different integer id for each", found, "number all annotations: 1, 2, 3, ...")
        self._seen.add(number)
        if self.refused and (reference := self._refused_entry(image_id, category_id)) is not None:
            self.left_out[reference] += 1
            return
        if not is_id(image_id) or image_id not in self.images:
            self._refuse(number, "belongs to an image that is not listed", "the id of one of 'images'", f"image_id {image_id!r}")
        if not is_id(category_id) or category_id not in self.known:
            expected = sorted(self.known)[:_SHOWN]
            self._refuse(number, "belongs to a category that is not listed", expected, f"category_id {category_id!r}")
        if crowd not in (None, 0, 1):
            self._refuse(number, "is neither a crowd region nor an instance", "iscrowd 0 or 1", f"iscrowd {crowd!r}")
        if category_id in self.kept:
            box = self._shape(entry, bool(crowd))
            self.annotations.append(Annotation(entry, number, image_id, category_id, box, bool(crowd)))

    def _refused_entry(self, image_id: Any, category_id: Any) -> Reference | None:
        """The refused entry of an annotation; None if another entry has its id."""
        for key, number, known in (("image_id", image_id, self.images), ("category_id", category_id, self.known)):
            if isinstance(number, int | str) and number not in known and (key, number) in self.refused:
                return key, number
        return None

    def _shape(self, entry: Json, crowd: bool) -> list[float]:
        """The box of an annotation whose ids are right, after a check of box, mask and area."""
        self.spelling.number(entry, "area")
        self.spelling.numbers(entry, "bbox")
        needs, area, box = self.needs, entry.get("area"), entry.get("bbox")
        culprit = _Culprit(entry, self.images[entry["image_id"]])
        if needs.areas and not (area is None or is_area(area)):
            self._refuse(culprit, "has no usable area", "a number of pixels, 0 or more", f"area {area!r}")
        if needs.masks != "ignored":
            self.spelling.check_mask(entry, culprit.image_size, culprit=culprit, where=self.path)
        mask = entry.get("segmentation")
        if not needs.boxes and not box and has_outline(mask):
            code = rle.from_segmentation(mask, culprit.image_size)
            assert code is not None
            return rle.tight_box(code)
        box = check_box(box, culprit=culprit, where=self.path)
        if needs.masks == "required" and not crowd and (whole := corners(box)) and inside(whole, culprit.image_size):
            check_mask(mask, culprit.image_size, culprit=culprit, where=self.path, required=True)
        return box

    def _refuse(self, culprit: object, problem: str, expected: object, found: str, remedy: str = _REMEDY) -> NoReturn:
        name = culprit if isinstance(culprit, _Culprit) else f"annotation {repr(culprit)[:40]}"
        raise DataError(f"{name} {problem}", where=self.path, expected=expected, found=found[:120], remedy=remedy)


class _Culprit(NamedTuple):
    """Names an annotation in a message."""

    entry: Json
    image: Json

    @property
    def image_size(self) -> tuple[int, int]:
        return self.image["height"], self.image["width"]

    def __str__(self) -> str:
        name = self.image.get("file_name")
        return f"annotation {self.entry['id']} of image {self.image['id']}" + (f" ({name})" if isinstance(name, str) else "")
