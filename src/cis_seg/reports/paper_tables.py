"""Tables 1 and 2 of the paper as data, and the experiment names that correspond to their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: in percent; the last three are AP of small, medium and large objects
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

TITLES = {"cis": "Table 1: CIS", "coco": "Table 2: COCO"}
#: what the paper's numbers were measured on
SOURCES = {
    "cis": "Paper: CIS, 459 images, shorter side 480; for 680 its text states one AP.",
    "coco": "Paper: test-dev2017, shorter side 800. Numbers measured on other images are not comparable.",
}
BACKBONES = {
    "r50_fpn": "ResNet-50-FPN",
    "r101_fpn": "ResNet-101-FPN",
    "r101_bifpn": "ResNet-101-BiFPN",
    "r101_dcn_bifpn": "ResNet-DCN-101-BiFPN",
}
#: shorter side of the test images of a table, in pixels
TEST_SIZE = {"cis": 480, "coco": 800}


@dataclass(frozen=True)
class Row:
    """The key of a row: data, backbone, and whether it uses OverlapLoss."""

    data: str
    backbone: str
    overlap: bool


_ROWS: dict[Row, tuple[float, ...]] = {
    Row("cis", "r50_fpn", False): (29.20, 64.07, 22.87, 0.01, 4.44, 37.68),
    Row("cis", "r50_fpn", True): (32.62, 68.26, 27.80, 0.0, 6.44, 41.55),
    Row("cis", "r101_fpn", False): (29.39, 65.99, 22.91, 0.0, 4.53, 38.00),
    Row("cis", "r101_fpn", True): (33.09, 69.94, 27.92, 0.02, 6.71, 42.16),
    Row("cis", "r101_bifpn", False): (29.52, 65.74, 22.69, 0.03, 5.07, 38.12),
    Row("cis", "r101_bifpn", True): (32.17, 68.89, 26.40, 0.04, 6.97, 41.56),
    Row("coco", "r50_fpn", False): (32.2, 55.3, 32.5, 16.2, 34.7, 42.9),
    Row("coco", "r50_fpn", True): (32.6, 55.6, 33.3, 16.7, 35.1, 43.0),
    Row("coco", "r101_fpn", False): (33.1, 56.5, 33.6, 16.2, 35.2, 45.1),
    Row("coco", "r101_fpn", True): (33.5, 56.9, 34.2, 16.6, 35.8, 45.3),
    Row("coco", "r101_bifpn", False): (33.9, 57.6, 34.3, 16.5, 36.0, 46.4),
    Row("coco", "r101_bifpn", True): (34.2, 58.0, 34.8, 17.2, 36.3, 46.7),
    Row("coco", "r101_dcn_bifpn", False): (35.0, 59.3, 35.6, 17.1, 37.2, 48.6),
    Row("coco", "r101_dcn_bifpn", True): (35.4, 59.6, 36.1, 17.6, 37.5, 49.1),
}
#: the AP that the text of the paper states for another test size
_AP_AT_OTHER_SIZES = {(Row("cis", "r50_fpn", True), 680): 34.25}


def row_of(name: str, weight: float) -> Row | None:
    """Return the row that corresponds to a run called ``name``, or None for pretraining and other names.

    ``*_finetune`` is the paper's BoxInst: the control with the same extra iterations as ``*_finetune_overlap``. The
    lambda of the run (``weight``) decides which of the two it is, because a sweep may override it; the paper has no teacher,
    and ``*_finetune_teacher`` stands beside the row of its lambda.
    """
    match = re.fullmatch(r"(cis|coco)_(\w+?)_finetune(_overlap|_teacher)?", name)
    row = None if match is None else Row(match[1], match[2], overlap=weight > 0)
    return row if row in _ROWS else None


def metrics(row: Row, *, test_size: int, area: str) -> dict[str, float]:
    """Return the paper's metrics of a row, in percent by column; empty if the paper states none.

    Args:
        row: key of the row.
        test_size: shorter side at which our runs were evaluated, in pixels.
        area: ``eval.area`` of our runs. The paper splits by the areas in the file (``published``); with any other value
            only AP, AP50 and AP75 are comparable.
    """
    if test_size == TEST_SIZE[row.data]:
        kept = len(COLUMNS) if area == "published" else COLUMNS.index("APs")
        return dict(zip(COLUMNS[:kept], _ROWS[row][:kept], strict=True))
    elsewhere = _AP_AT_OTHER_SIZES.get((row, test_size))
    return {} if elsewhere is None else {"AP": elsewhere}
