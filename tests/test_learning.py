"""The network learns masks from boxes: on four generated images, within a minute or two, it leaves every box-shaped answer behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.train import train
from runs import composed, metrics_of


@pytest.mark.slow
def test_boxes_alone_teach_masks(tmp_path: Path) -> None:
    cfg = composed("debug=overfit", f"paths.runs={tmp_path}/runs", f"paths.data={tmp_path}/data", "logger=csv")
    train(cfg)
    metrics = metrics_of(Path(cfg.paths.run))
    assert metrics["train/bbox/AP50"] > 90
    assert metrics["train/segm/AP50"] > metrics["train/floor/ellipse_AP50"] + 20
    assert abs(metrics["train/shape/mask_to_box"] - metrics["train/floor/mask_to_box"]) < 0.15
