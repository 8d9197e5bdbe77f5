"""docs/metrics.md names every key that the program writes to metrics.json."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import BOX_KINDS, CrowdImage, CrowdTruth, GroundTruth
from cis_seg.evaluation.crowdhuman import crowdhuman_metrics
from cis_seg.evaluation.given_boxes import given_box_metrics
from cis_seg.evaluation.metrics import score
from small_coco import coco_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
WRITTEN_BY_TRAIN = {"step"}


def expanded(text: str) -> list[str]:
    """``a/{b,c}`` as ``a/b`` and ``a/c``."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return ["".join(words) for words in itertools.product(*parts)]


def documented() -> set[str]:
    """The keys in the first column of the page's tables."""
    cells = re.findall(r"^\| (`[^|]*`) \|", PAGE.read_text(), re.MULTILINE)
    return {key for cell in cells for text in re.findall(r"`([^`]+)`", cell) for key in expanded(text)}


def written(folder: Path) -> set[str]:
    """The keys of every kind of evaluation, with and without masks; categories as ``<name>``."""
    truth = GroundTruth(coco_folder(folder) / "annotations" / "instances_val2017.json")
    found: list[dict[str, Any]] = [{**a, "score": 0.9, "segmentation": rle.to_json(a["segmentation"])} for a in truth.annotations]
    boxes = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in found]
    metrics = score(truth, found, exclusive=True).metrics | score(truth, boxes).metrics
    metrics |= given_box_metrics(truth, {a["id"]: a["segmentation"] for a in truth.annotations})
    for kind in BOX_KINDS:
        metrics |= crowdhuman_metrics(CrowdTruth(kind, {0: CrowdImage((96, 128), [(0, 0, 9, 9)])}), [])
    names = "|".join(truth.category_names)
    assert json.loads(json.dumps(metrics)) == metrics
    return {re.sub(rf"/AP/({names})$", "/AP/<name>", key) for key in metrics} | WRITTEN_BY_TRAIN


def test_every_key_is_documented_and_every_documented_key_is_written(tmp_path: Path) -> None:
    page, keys = documented(), written(tmp_path / "coco")
    assert sorted(keys - page) == []
    assert sorted(page - keys) == []


def test_a_missing_key_would_be_found() -> None:
    assert expanded("{a,b}/c_{d,e}") == ["a/c_d", "a/c_e", "b/c_d", "b/c_e"]
    assert {"segm/AP", "bbox/AP/<name>", "crowdhuman/MR/head", "num_images"} <= documented()
    assert "segm/AR/crowd_unknown" not in documented()
