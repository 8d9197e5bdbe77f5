"""The network learns masks from boxes alone: after 500 steps, better ones on images it never saw than any shape in their true boxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cis_seg.commands.train import train
from runs import composed, metrics_of

SHORT = (
    "data.num_train=600",
    "data.num_val=24",
    "data.train_sizes=[192]",
    "data.test_size=192",
    "model.mask_out_stride=4",
    "schedule.max_steps=500",
    "schedule.decay_steps=[]",
    "schedule.val_every=500",
    "schedule.save_every=500",
    "loss.pairwise.warmup_steps=500",
    "optim.lr=0.001",
    "logger=csv",
)


@pytest.mark.slow
def test_masks_are_learned_from_boxes_alone(tmp_path: Path) -> None:
    cfg = composed(*SHORT, "name=learning", f"paths.runs={tmp_path}/runs", f"paths.data={tmp_path}/data")
    train(cfg)
    metrics = metrics_of(Path(cfg.paths.run))
    assert metrics["bbox/AP50"] > 70
    assert metrics["segm/AP50"] > metrics["floor/ellipse_AP50"] + 20
    assert metrics["shape/mask_to_box"] < 0.8
