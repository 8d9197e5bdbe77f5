"""Masks of another model: matched by id and by box, true masks kept, how they agree, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cis_seg.annotation.mask_import import Imported, import_masks, masks_of
from cis_seg.coco import rle
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco
from cis_seg.commands.annotations import import_masks as main
from cis_seg.errors import DataError

SIZE = (60, 100)
#: id -> box; 1 and 2 overlap, 3 has a true mask, 9 is an ignore region
BOXES = {1: [10, 10, 20, 30], 2: [20, 10, 20, 30], 3: [60, 10, 20, 30], 9: [0, 50, 100, 10]}


def filled(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return rle.to_json(rle.encode(mask))


def content() -> dict[str, Any]:
    annotations = [{"id": i, "image_id": 3, "category_id": 1, "bbox": box, "area": 7, "iscrowd": int(i == 9)} for i, box in BOXES.items()]
    annotations[2]["segmentation"] = filled(60, 10, 20, 30)
    images = [{"id": 3, "file_name": "3.jpg", "height": SIZE[0], "width": SIZE[1]}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def coco(changed: dict[str, Any] | None = None) -> CocoFile:
    return check_coco(changed or content(), Path("boxes.json"), Needs(masks="optional"))


def result(x: int, y: int, width: int, height: int, score: float = 0.8, **more: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 1, "score": score, "segmentation": filled(x, y, width, height), **more}


def imported(*results: dict[str, Any], **options: Any) -> Imported:
    return import_masks(coco(), results, Path("results.json"), **options)


def masks(found: Imported) -> dict[int, tuple[Any, Any]]:
    return {a["id"]: (a.get("segmentation"), a.get("score")) for a in found.annotations}


def test_by_id_the_best_score_counts_and_the_box_does_not() -> None:
    far = result(40, 0, 5, 5, 0.9, annotation_id=1)
    found = imported(result(10, 10, 20, 30, 0.5, annotation_id=1), far)
    assert masks(found)[1] == (far["segmentation"], 0.9)
    assert (found.by_id, found.by_box, found.unused, found.boxes_alone) == (1, 0, 1, 1)
    assert found.annotations[0]["area"] == 25


def test_by_box_the_best_pairs_come_first_and_every_annotation_has_one_result() -> None:
    """The first result fits both boxes, the second box better."""
    between, first = result(16, 10, 22, 30), result(10, 10, 18, 30)
    found = imported(between, first, result(80, 0, 10, 10))
    assert (masks(found)[1][0], masks(found)[2][0]) == (first["segmentation"], between["segmentation"])
    assert (found.by_id, found.by_box, found.unused) == (0, 2, 1)
    assert imported(between, first, min_iou=0.85).by_box == 1
    given = {key: value for key, value in result(0, 0, 3, 3).items() if key != "segmentation"}
    assert imported({**given, "bbox": BOXES[1]}).boxes_alone == 2, "a result without a mask is not used"
    boxed = imported(result(12, 12, 4, 4, bbox=BOXES[1]))
    assert boxed.by_box == 1, "the result's box decides, not its mask's"


def test_true_masks_and_ignore_regions_are_kept() -> None:
    found = imported(result(60, 10, 10, 30, 0.6, annotation_id=3), result(0, 50, 100, 10))
    assert found.annotations[2] == content()["annotations"][2]
    assert found.annotations[3] == content()["annotations"][3]
    assert (found.true, found.true_ious, found.true_scores, found.unused) == (1, [0.5], [0.6], 1)


def test_agreement_by_hand() -> None:
    found = imported(result(10, 10, 20, 15, annotation_id=1), result(25, 10, 30, 30, annotation_id=2))
    assert found.box_ious == pytest.approx([300 / 600, 450 / (600 + 900 - 450)])
    assert found.outside == pytest.approx([0, 450 / 900])
    assert found.overlaps == pytest.approx([75 / (300 + 900 - 75)])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"annotation_id": 4}, "annotation_id 4"),
        ({"annotation_id": 9}, "not of an ignore region"),
        ({"annotation_id": "1"}, "annotation_id '1'"),
        ({"annotation_id": 1, "image_id": 8}, "in image 8"),
        ({"annotation_id": 1, "score": 80}, "divide percentages by 100"),
        ({"annotation_id": 1, "score": -0.1}, "0 to 1"),
    ],
)
def test_wrong_results(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(result(10, 10, 20, 30) | wrong)


def test_scores_never_mean_a_true_mask() -> None:
    assert masks(imported(result(10, 10, 20, 30, 1.02, annotation_id=1)))[1][1] == 0.99


def test_masks_of_an_annotation_file() -> None:
    own = content()
    own["annotations"][0] |= {"segmentation": filled(10, 10, 20, 30), "confidence": 0.7}
    own["annotations"][1] |= {"segmentation": [], "confidence": 0.0}
    found = imported(*masks_of(coco(own)))
    assert masks(found)[1] == (filled(10, 10, 20, 30), 0.7)
    assert found.boxes_alone == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes, results, target = (str(tmp_path / name) for name in ("boxes.json", "results.json", "out.json"))
    Path(boxes).write_text(json.dumps(content()))
    Path(results).write_text(json.dumps([result(10, 10, 20, 30, annotation_id=1), result(60, 10, 20, 15, 0.4)]))
    assert main([boxes, results, target]) == 0
    said = capsys.readouterr().out
    for line in (
        "2 results matched (1 by annotation id, 1 by box), 0 not used",
        "1 masks imported, 1 true masks kept, 1 instances with a box alone",
        "compared with 1 true masks: mean IoU 0.50; their scores say 0.40",
    ):
        assert line in said
    written = json.loads(Path(target).read_text())
    assert written["images"] == content()["images"]
    assert written["annotations"][0]["score"] == 0.8
    assert main([boxes, results, boxes]) == 2
    assert main([boxes, results, target, "--min-iou", "0"]) == 2
    Path(results).write_text(json.dumps(written))
    assert main([boxes, results, target]) == 0
    assert json.loads(Path(target).read_text()) == written
