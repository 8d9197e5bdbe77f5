"""Reader of CrowdHuman's ``.odgt`` files: one JSON object a line, one line an image."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from cis_seg.data.checks import check_file_name, listing, parse_box, report_dropped
from cis_seg.data.records import ImageRecord, InstanceDataset, pack
from cis_seg.errors import ConfigError, DataError

BoxKind = Literal["visible", "full"]
_KEYS = {"visible": "vbox", "full": "fbox"}


class CrowdHumanDataset(InstanceDataset):
    """The images of an ``.odgt`` file, one class: person.

    The id of an image is its line, counted from 0 (as in CIS.json). Entries that are no ``person`` or have
    ``extra.ignore`` 1 are regions to ignore: they never train as boxes and are kept in ``records.ignore_boxes``.
    ``head_attr.ignore`` speaks of the head alone and changes nothing. The file does not hold the sizes of the images,
    so boxes (which leave the image often) are clipped when the image is read.

    Args:
        annotations: the ``.odgt`` file.
        images: folder with ``<ID>.jpg``.
        boxes: ``visible`` takes what is seen of a person (``vbox``), ``full`` the guessed whole body (``fbox``).
        keep_empty: keep the images without a person.

    Raises:
        ConfigError: ``boxes`` is neither of the two.
        DataError: a missing file or folder, a line that is not JSON, or an entry that makes no sense.
    """

    def __init__(self, annotations: Path, images: Path, *, boxes: BoxKind = "visible", keep_empty: bool = False) -> None:
        if boxes not in _KEYS:
            raise ConfigError(
                "there is no such kind of box",
                where="boxes",
                expected=" or ".join(_KEYS),
                found=boxes,
                remedy="visible boxes are the default",
            )
        found = _read_odgt(annotations, _KEYS[boxes])
        kept = [image for image in found if keep_empty or image.boxes]
        if not kept:
            raise DataError(
                "no image is left to train on",
                where=annotations,
                expected="records with a person",
                found=f"{len(found)} records without any",
                remedy="check the file, or set keep_empty=true",
            )
        super().__init__(pack(kept, with_segmentations=False), images, class_names=("person",), category_ids=(1,), source=annotations)


def _read_odgt(path: Path, key: str) -> list[ImageRecord]:
    if not path.is_file():
        raise DataError(
            "there is no annotation file",
            where=path,
            expected="a CrowdHuman .odgt file",
            found=f"odgt files in {path.parent}: {listing(path.parent, '*.odgt')}",
            remedy="give the path of the .odgt file",
        )
    found: list[ImageRecord] = []
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                found.append(_image_record(_parse(line, where), number - 1, key, where, dropped))
                if found[-1].file_name in seen:
                    raise DataError(
                        f"image {found[-1].file_name} is listed twice",
                        where=where,
                        expected="one record an image",
                        remedy="merge the records or delete one",
                    )
                seen.add(found[-1].file_name)
    report_dropped(path, dropped)
    return found


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        found = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(
            "a record is not valid JSON",
            where=where,
            expected="one JSON object a line",
            found=found,
            remedy="the file is damaged or cut short: download or write it again",
        ) from error
    boxes = record.get("gtboxes") if isinstance(record, dict) else None
    if not isinstance(boxes, list) or not all(isinstance(entry, dict) for entry in boxes):
        raise DataError(
            "a record has no boxes",
            where=where,
            expected="an object with 'ID' and the list 'gtboxes'",
            found=line[:80].decode(errors="replace"),
            remedy="use annotation_train.odgt or annotation_val.odgt of CrowdHuman",
        )
    assert isinstance(record, dict)
    return record


def _image_record(record: dict[str, Any], image_id: int, key: str, where: str, dropped: Counter[str]) -> ImageRecord:
    name = record.get("ID")
    culprit = f"image {name!r}"
    file_name = check_file_name(f"{name}.jpg" if isinstance(name, str) and name else name, culprit=culprit, where=where)
    image = ImageRecord(image_id, file_name)
    for place, entry in enumerate(record["gtboxes"]):
        box = parse_box(entry.get(key), culprit=f"{key} of entry {place} of {culprit}", where=where)
        if box is None:
            dropped["boxes without width or height"] += 1
        elif entry.get("tag") != "person" or (entry.get("extra") or {}).get("ignore", 0) == 1:
            image.ignored.append(box)
        else:
            image.boxes.append(box)
            image.labels.append(0)
    return image
