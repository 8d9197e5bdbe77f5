"""Two sources of masks: worst first, merged by score without shared pixels, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cis_seg.annotation.disagreement import merged, pairs
from cis_seg.coco import rle
from cis_seg.coco.entries import Needs
from cis_seg.coco.reader import CocoFile, check_coco
from cis_seg.commands.annotations import compare_masks as main
from cis_seg.errors import DataError

SIZE = (40, 60)
Masks = dict[int, tuple[tuple[int, int, int, int], float | None]]
#: id -> filled box and score; 4 has no mask in either, 9 is an ignore region
OURS: Masks = {1: ((5, 5, 10, 20), None), 2: ((10, 5, 10, 20), 0.6), 3: ((40, 5, 10, 20), 0.7)}
THEIRS: Masks = {1: ((5, 5, 10, 10), 0.9), 2: ((10, 5, 10, 20), 0.8)}


def pixels(x: int, y: int, width: int, height: int) -> Any:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def content(masks: Masks) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number in (1, 2, 3, 4, 9):
        entry = {"id": number, "image_id": 3, "category_id": 1, "bbox": [5, 5, 20, 30], "area": 7, "iscrowd": int(number == 9)}
        if number in masks:
            box, score = masks[number]
            entry |= {"segmentation": rle.to_json(rle.encode(pixels(*box)))} | ({} if score is None else {"score": score})
        annotations.append(entry)
    images = [{"id": 3, "file_name": "3.jpg", "height": SIZE[0], "width": SIZE[1]}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def coco(masks: Masks) -> CocoFile:
    return check_coco(content(masks), Path("masks.json"), Needs(masks="optional"))


def test_the_lowest_iou_comes_first() -> None:
    found = pairs(coco(OURS), coco(THEIRS))
    assert [(pair.first.id, pair.iou, pair.scores) for pair in found] == [(3, 0, (0.7, 0)), (1, 0.5, (1, 0.9)), (2, 1, (0.6, 0.8))]
    assert found[1].entry() == {"annotation_id": 1, "image_id": 3, "iou": 0.5, "scores": [1.0, 0.9]}


def test_other_boxes_are_refused() -> None:
    other = content(THEIRS)
    del other["annotations"][1]
    with pytest.raises(DataError, match="annotation 2 of image 3 is not in the other file"):
        pairs(coco(OURS), check_coco(other, Path("theirs.json"), Needs(masks="optional")))


def test_merged_by_score_and_exclusive() -> None:
    """The true mask of 1 keeps the pixels that 2 also claims; 2 comes from the second file, 3 from the first."""
    ours = coco(OURS)
    found = {a["id"]: a for a in merged(ours, pairs(ours, coco(THEIRS)))}
    masks = {number: rle.decode(found[number]["segmentation"]).astype(bool) for number in (1, 2, 3)}
    assert np.array_equal(masks[1], pixels(5, 5, 10, 20))
    assert np.array_equal(masks[2], pixels(15, 5, 5, 20))
    assert np.array_equal(masks[3], pixels(40, 5, 10, 20))
    assert [found[number].get("score") for number in (1, 2, 3, 4)] == [None, 0.8, 0.7, None]
    assert found[2]["area"] == 100
    assert "segmentation" not in found[4]
    assert found[9] == content(OURS)["annotations"][-1]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, masks in (("ours.json", OURS), ("theirs.json", THEIRS)):
        (tmp_path / name).write_text(json.dumps(content(masks)))
    Image.new("RGB", SIZE[::-1], "gray").save(tmp_path / "3.jpg")
    paths = [str(tmp_path / name) for name in ("ours.json", "theirs.json", ".", "out")]
    assert main(paths) == 0
    assert "3 instances with a mask, 2 in both files, mean IoU 0.750, 0 below 0.5" in capsys.readouterr().out
    assert [entry["annotation_id"] for entry in json.loads((tmp_path / "out" / "disagreement.json").read_text())] == [3, 1, 2]
    assert (tmp_path / "out" / "disagreement_000.png").is_file()
    assert len(json.loads((tmp_path / "out" / "merged.json").read_text())["annotations"]) == 5
    assert main([*paths[:2], str(tmp_path), str(tmp_path / "new"), "--pages", "0"]) == 0
    assert not (tmp_path / "new" / "disagreement_000.png").exists()
    assert main([str(tmp_path / "nowhere.json"), *paths[1:]]) == 2
