"""A results file of COCO's test-dev2017, checked and packed for the evaluation server.

The server (cocodataset.org, Upload) takes ``detections_test-dev2017_[alg]_results.zip`` with one JSON of the same name
in it; whether boxes or masks are scored is chosen there. ``detections`` is the type of both tasks.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, read_coco
from cis_seg.coco.results import read_results
from cis_seg.errors import ConfigError, DataError

NUM_IMAGES = 20_288  # of the official image_info_test-dev2017.json
MAX_DETECTIONS = 100  # per image, over all categories: the server scores no more
SCORE_DIGITS = 6  # because float32 scores hold no more, and the server limits the size of an upload


@dataclass(frozen=True)
class Submission:
    """Summary of what was packed."""

    path: Path
    num_results: int
    num_images: int  # with a result
    num_known_images: int
    num_categories: int  # with a result

    def __str__(self) -> str:
        lines = [
            f"{self.num_results} results in {self.num_images} of {self.num_known_images} images, {self.num_categories} categories",
            f"wrote {self.path} ({self.path.stat().st_size / 2**20:.1f} MB): upload it as test-dev2017, type segm",
        ]
        if self.num_known_images != NUM_IMAGES:
            lines.append(
                f"warning: test-dev2017 has {NUM_IMAGES} images, this list {self.num_known_images}: the server will refuse another set"
            )
        return "\n".join(lines)


def pack(results: Path, image_info: Path, *, name: str, output: Path) -> Submission:
    """Check a results file and write ``output/detections_test-dev2017_NAME_results.zip``.

    Entries are written as COCO's format for segments has them: image_id, category_id, segmentation (a compressed RLE,
    in whatever form it came) and score. Boxes are left out: pycocotools would take the detections' areas, which decide the
    small, medium and large split, from them instead of from the masks.

    Args:
        results: COCO results file with masks, of any system.
        image_info: COCO's ``image_info_test-dev2017.json``.
        name: the algorithm, part of the file's name.
        output: folder to write into.

    Raises:
        ConfigError: a name that cannot be part of a file name.
        DataError: a file that cannot be read, or an entry that the server would refuse or not score; the message names it.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name):
        raise ConfigError(
            "the algorithm name contains characters that are not allowed (it becomes part of a file name)",
            expected="letters, digits, - and .",
            found=repr(name),
        )
    known = read_image_list(image_info)
    entries = read_results(results, known)
    for index, entry in enumerate(entries):
        _check_entry(entry, f"{results}, entry {index}")
    _check_counts(entries, results)
    output.mkdir(parents=True, exist_ok=True)
    stem = f"detections_test-dev2017_{name}_results"
    path = output / f"{stem}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}.json", json.dumps([_written(entry) for entry in entries], separators=(",", ":")))
    images, categories = ({entry[key] for entry in entries} for key in ("image_id", "category_id"))
    return Submission(path, len(entries), len(images), len(known.images), len(categories))


def read_image_list(path: Path) -> CocoFile:
    """COCO's list of images without ground truth: ``image_info_test-dev2017.json``.

    Raises:
        DataError: the file is missing or corrupt, or has annotations and is therefore another set.
    """
    known = read_coco(path, Needs(file_names=False))
    if known.annotations:
        raise DataError(
            "this set has a ground truth, so it is not test-dev",
            where=path,
            found=f"{len(known.annotations)} annotations",
            expected="COCO's image_info_test-dev2017.json",
            remedy="score it here: python -m cis_seg.evaluate predictions=RESULTS.json data=coco ...",
        )
    return known


def _check_entry(entry: dict[str, Any], where: str) -> None:
    """Refuse what ``read_results`` accepts and this task does not: entries without a mask, scores outside [0, 1]."""
    if "segmentation" not in entry:
        raise DataError(
            "a result has no mask", where=where, expected="a segmentation", remedy="submit it to the bbox task, or add the masks"
        )
    if not 0 <= entry["score"] <= 1:
        raise DataError("a score is not a probability", where=where, expected="0 to 1", found=entry["score"], remedy="rescale the scores")


def _check_counts(entries: list[dict[str, Any]], results: Path) -> None:
    if not entries:
        raise DataError("there is no result to submit", where=results, expected="one entry per detection", found="an empty list")
    image_id, most = Counter(entry["image_id"] for entry in entries).most_common(1)[0]
    if most > MAX_DETECTIONS:
        raise DataError(
            "an image has too many results",
            where=f"{results}, image {image_id}",
            expected=f"at most {MAX_DETECTIONS}, over all categories",
            found=most,
            remedy=f"keep the best of each image: eval.max_detections={MAX_DETECTIONS}",
        )


def _written(entry: dict[str, Any]) -> dict[str, Any]:
    score = round(float(entry["score"]), SCORE_DIGITS)
    return {"image_id": entry["image_id"], "category_id": entry["category_id"], "segmentation": entry["segmentation"], "score": score}
