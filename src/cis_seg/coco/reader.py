"""The one reader and checker of COCO instance files (``instances_*.json``, ``CIS.json``, lists of images without annotations).

Training, scoring, the data check, masks from boxes, annotation jobs and submissions are views of the ``CocoFile`` returned here, so that
they refuse the same faults in the same words. A results file is another format (``coco.results``); it shares the checks of boxes and masks.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cis_seg.coco.boxes import check_format
from cis_seg.coco.checks import has_outline
from cis_seg.coco.classes import choose, unused_parents
from cis_seg.coco.entries import Annotation, Checker, Needs, Reference
from cis_seg.coco.file_names import near_file
from cis_seg.coco.suspicious import Suspect, boxes_beside_masks, find_suspects, summaries
from cis_seg.errors import DataError, listing
from cis_seg.runtime.file_kinds import JSON, file_kind

_LISTS = ("images", "annotations", "categories")

Json = dict[str, Any]
log = logging.getLogger(__name__)


class Fault(NamedTuple):
    """An entry of the file that cannot be used."""

    error: DataError
    entry: Json
    reference: Reference | None  # by which annotations refer to it; None for an annotation, or without an id


@dataclass
class CocoFile:
    """A COCO instance file whose entries are checked."""

    path: Path
    categories: dict[int, str]  # the chosen ones: id -> name, in the order of the labels
    known_category_ids: frozenset[int]  # all of the file
    others: Json  # every key of the file other than images and annotations
    images: dict[int, Json]  # id -> entry, in the file's order
    annotations: list[Annotation]  # of the chosen categories, in the file's order
    faults: list[Fault]  # empty unless they were to be collected
    left_out: Counter[Reference]  # number of annotations that refer to an entry of ``faults``
    notes: list[str]  # on the file as a whole: values spelled differently, unused classes, boxes that may be in another format
    suspects: list[Suspect]  # valid entries that are probably not meant

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) of an image."""
        image = self.images[image_id]
        return image["height"], image["width"]

    def by_image(self) -> dict[int, list[Annotation]]:
        """Image id -> its annotations, in the file's order; [] for an image without any."""
        found: dict[int, list[Annotation]] = {image_id: [] for image_id in self.images}
        for annotation in self.annotations:
            found[annotation.image_id].append(annotation)
        return found

    def write(self, path: Path, annotations: Sequence[Json]) -> None:
        """Write the file with other ``annotations``; creates the folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self.others | {"images": list(self.images.values()), "annotations": annotations}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause garbage collection while millions of objects are created: visiting them again and again takes a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_json(path: Path, kind: str) -> Any:
    """The content of a JSON file; ``kind`` names it in the message ("the results file").

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    if not path.is_file():
        raise missing_json(path, kind, "check the path")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not text, a number with thousands of digits; nested too deep
        raise _not_json(path, error) from error


def missing_json(path: Path, kind: str, remedy: str) -> DataError:
    """The error for a JSON file that does not exist, with one of a similar name if there is one."""
    near = near_file(path.parent, path.name)
    if near is not None and near.name.lower().endswith(".json"):
        remedy = f"did you mean {near.name}? {remedy}"
    found = f"json files in {path.parent}: {listing(path.parent, '*.json')}"
    return DataError(f"{kind} does not exist", where=path, expected="a JSON file", found=found, remedy=remedy)


def _not_json(path: Path, error: Exception) -> DataError:
    kind = file_kind(path)
    found, remedy = str(error), "the file is corrupt or truncated: download or write it again"
    if kind is not None and kind.name != JSON:
        found, remedy = kind.name, kind.remedy or "pass the JSON file"
    elif path.suffix == ".odgt":
        remedy = "convert it: cis-seg crowdhuman"
    elif isinstance(error, UnicodeDecodeError):
        found = f"text in another encoding than UTF-8: byte {error.object[error.start]:#04x} at position {error.start}"
        remedy = "convert it to UTF-8, for example: iconv -f latin1 -t utf-8 FILE > NEW"
    return DataError(f"{path.name} is not valid JSON", where=path, found=f"{found} ({path.stat().st_size} bytes)", remedy=remedy)


def read_coco(path: Path, needs: Needs | None = None, *, collect: bool = False) -> CocoFile:
    """Read and check a COCO instance file. Its notes are logged, once per process, unless faults are collected.

    Args:
        path: the json.
        needs: the checks that apply; boxes and file names by default.
        collect: list entries that cannot be used in ``faults``, at most one fault each, instead of raising at the first.

    Raises:
        DataError: the file is missing, not JSON or without the lists of COCO; a category that does not exist; or the first fault.
    """
    with collector_paused():
        file = check_coco(read_json(path, "the annotation file"), path, needs, collect=collect)
    if not collect:
        for note in (*file.notes, *summaries(file.suspects)):
            warn_once(f"{path}: {note}")
    return file


@functools.cache  # because a run reads the file that it scores twice, once for its images and once for its masks
def warn_once(text: str) -> None:
    """Log a warning that this process has not logged before."""
    log.warning(text)


def check_coco(content: Any, path: Path, needs: Needs | None = None, *, collect: bool = False) -> CocoFile:
    """``read_coco`` of content that is in memory already; ``path`` is for messages."""
    _check_lists(content, path)
    needs, faults = needs or Needs(), list[Fault]()
    checker = Checker(path, needs)
    _check_each(content["categories"], checker.category, faults if collect else None, "category_id")
    checker.known = frozenset(checker.category_ids.values())
    chosen = choose(checker.category_ids, needs.categories, path)
    checker.kept = chosen.keys()
    _check_each(content["images"], checker.image, faults if collect else None, "image_id")
    checker.refused = {fault.reference for fault in faults if fault.reference is not None}
    _check_each(content["annotations"], checker.annotation, faults if collect else None)
    others = {key: value for key, value in content.items() if key not in ("images", "annotations")}
    suspects = list(find_suspects(checker.images, checker.annotations))
    notes = checker.spelling.notes()
    file = CocoFile(path, chosen, checker.known, others, checker.images, checker.annotations, faults, checker.left_out, notes, suspects)
    try:
        file.notes.extend(_remarks(file))
    except DataError as error:
        if not collect:
            raise
        file.notes.append(error.one_line)
    return file


def _remarks(file: CocoFile) -> Iterator[str]:
    """Remarks on the classes and boxes of a file whose entries are valid."""
    used = Counter(annotation.category_id for annotation in file.annotations)
    unused = {number: name for number, name in file.categories.items() if not used[number]}
    if used and (parents := unused_parents(file.others["categories"], unused)):
        rest = ",".join(name for name in file.categories.values() if name not in parents)
        yield (
            f"no annotation is of the category {', '.join(map(repr, parents))}, the supercategory of others, but it counts as a class; "
            f"leave it out with data.categories=[{rest}]"
        )
    people = [annotation for annotation in file.annotations if not annotation.crowd]
    sizes = [file.image_size(annotation.image_id) for annotation in people]
    note = check_format([annotation.box for annotation in people], sizes, file.path) or boxes_beside_masks(people, sizes)
    if note is not None:
        yield note


def without_area(file: CocoFile) -> list[int]:
    """The ids of the annotations without ``area``."""
    return [annotation.id for annotation in file.annotations if annotation.entry.get("area") is None]


def without_mask(file: CocoFile) -> list[int]:
    """The ids of the annotations whose checked mask encloses nothing."""
    return [annotation.id for annotation in file.annotations if not has_outline(annotation.entry.get("segmentation"))]


def _check_each(entries: Sequence[Json], check: Callable[[Json], None], faults: list[Fault] | None, key: str | None = None) -> None:
    """Check every entry, to which annotations refer by ``key``; without a list of faults the first one is raised."""
    for entry in entries:
        try:
            check(entry)
        except DataError as error:
            if faults is None:
                raise
            faults.append(Fault(error, entry, (key, number) if key and isinstance(number := entry.get("id"), int | str) else None))


def _check_lists(content: Any, path: Path) -> None:
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        content.setdefault("annotations", [])  # absent in a list of images, such as image_info_test-dev2017.json
    found = f"an object with {sorted(content)[:8]}" if isinstance(content, dict) else f"a {type(content).__name__} (a results file?)"
    if isinstance(content, dict) and all(_is_list_of_objects(content.get(key)) for key in _LISTS):
        if not any("segments_info" in annotation for annotation in content["annotations"][:1]):
            return
        found = "panoptic annotations (segments_info)"
    raise DataError(
        f"{path.name} is not a COCO instances file",
        where=path,
        found=found,
        expected=f"an object with lists of objects: {', '.join(_LISTS)}",
        remedy="use the file of instance annotations, not captions, keypoints, panoptic annotations or results",
    )


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
