"""Detections in odgt lines, as CrowdDet and other detectors of CrowdHuman write them.

A line is ``{"ID": ..., "dtboxes": [{"box": [x, y, width, height], "score": ...}, ...]}``.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path, PurePath
from typing import Any

from cis_seg.coco.checks import check_box, is_score
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.coco.spelling import Spelling
from cis_seg.data.odgt import BOX_KEYS, parsed_line
from cis_seg.errors import DataError

log = logging.getLogger(__name__)

PLAIN_KEY = "box"  # CrowdDet's, of no kind
_PERSON = (1, "1", "person")
_EXPECTED = "one object per line: {'ID': ..., 'dtboxes': [{'box': [x, y, width, height], 'score': ...}]}"


def is_odgt(path: Path) -> bool:
    """Whether a results file has odgt lines: its first line is an object with ``ID``, or it is named ``.odgt``."""
    if not path.is_file() or path.suffix == ".odgt":
        return path.is_file()
    with path.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    if not first.lstrip().startswith(b"{"):
        return False
    try:
        return "ID" in json.loads(first)
    except (ValueError, RecursionError):
        return False


def read_odgt_results(path: Path, truth: GroundTruth, boxes: str) -> list[dict[str, Any]]:
    """Read and check detections, as COCO results entries of the first category of ``truth``, in the order of the file.

    A detection's box is ``vbox``, ``fbox`` or ``hbox``, or ``box``, which is of any kind. An image without a line has no detections.

    Args:
        path: the file; its IDs are the names of the images without their extension.
        truth: the images.
        boxes: the kind of box that is scored: ``visible``, ``full`` or ``head``.

    Raises:
        DataError: a line or a detection that cannot be used, or boxes of other kinds only.
    """
    ids = {PurePath(str(image.get("file_name"))).with_suffix("").as_posix(): number for number, image in truth.images.items()}
    spelling, results, seen = Spelling(), list[dict[str, Any]](), set[int]()
    with path.open("rb") as lines:
        for place, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {place}"
                image_id, found = _line(parsed_line(line, where), ids, truth.path, where)
                if image_id in seen:
                    raise DataError("an image has two lines", where=where, expected="one line per image", remedy="merge or delete one")
                seen.add(image_id)
                for number, entry in enumerate(found):
                    checked = _detection(entry, boxes, spelling, f"{where}, detection {number}")
                    results.append({"image_id": image_id, "category_id": truth.category_ids[0], **checked})
    if not seen:
        raise DataError("the results file has no lines", where=path, expected=_EXPECTED, remedy="write it again")
    for note in spelling.notes():
        log.warning("%s: %s", path, note)
    log.info("%s: %d detections in %d of %d images of %s", path.name, len(results), len(seen), len(truth.images), truth.path.name)
    return results


def _line(content: Any, ids: dict[str, int], source: Path, where: str) -> tuple[int, list[Any]]:
    """The image id and the detections of one line."""
    found = content.get("dtboxes") if isinstance(content, dict) else None
    if not isinstance(found, list):
        keys = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        remedy = "write the detections of an image as 'dtboxes'; an image without any has an empty list"
        raise DataError("a line has no dtboxes", where=where, expected=_EXPECTED, found=keys[:120], remedy=remedy)
    name = str(content.get("ID"))
    if name not in ids:
        raise DataError(
            "a line is for an image that the data set does not have",
            where=where,
            expected=f"an ID of {source}, for example {next(iter(ids), None)!r}",
            found=f"ID {content.get('ID')!r}",
            remedy="use it with the data set it was made for: data.annotations",
        )
    return ids[name], found


def _detection(entry: Any, boxes: str, spelling: Spelling, where: str) -> dict[str, Any]:
    """The box and score of one detection."""
    if not isinstance(entry, dict):
        raise DataError("a detection is not an object", where=where, expected="{'box': ..., 'score': ...}", found=str(entry)[:80])
    key = BOX_KEYS[boxes] if BOX_KEYS[boxes] in entry else PLAIN_KEY
    if key not in entry and (others := [kind for kind, other in BOX_KEYS.items() if other in entry]):
        raise DataError(
            f"the detections are {' and '.join(others)} boxes, not {boxes} ones",
            where=where,
            expected=f"the key {BOX_KEYS[boxes]} (or {PLAIN_KEY}, if the detector predicts {boxes} boxes)",
            found=", ".join(entry),
            remedy=f"score what the detector predicts: data.boxes={others[0]}",
        )
    if entry.get("tag", 1) not in _PERSON:
        raise DataError("a detection is not of a person", where=where, expected="tag 1, 'person' or absent", found=f"tag {entry['tag']!r}")
    spelling.number(entry, "score")
    spelling.numbers(entry, key)
    if not is_score(entry.get("score")):
        found = str(entry)[:80]
        raise DataError(
            "a detection has no finite score", where=where, expected="a number 'score'", found=found, remedy="correct or remove it"
        )
    return {"bbox": list(check_box(entry.get(key), culprit="a detection", where=where)), "score": entry["score"]}
