"""Whose row a run is: groups, stages and tags from its config."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cis_seg.config.plain import to_plain
from cis_seg.training.callbacks.wandb_logging.logger import LONGEST_TAG, group_of, stage_of, tags_of
from runs import composed


def about(*overrides: str) -> dict[str, Any]:
    """What the logger is told of a composed config."""
    told: dict[str, Any] = to_plain(composed(*overrides))["logger"]["wandb"]["about"]
    return told


@pytest.mark.parametrize(
    ("overrides", "group", "stage"),
    [
        ((), "crowd_tiny", "pretrain"),
        (("experiment=crowd_tiny_pretrain",), "crowd_tiny", "pretrain"),
        (("experiment=crowd_tiny_finetune",), "crowd_tiny", "control"),
        (("experiment=crowd_tiny_finetune_overlap",), "crowd_tiny", "overlap"),
        (("experiment=crowd_tiny_finetune_teacher",), "crowd_tiny", "teacher"),
        (("experiment=cis_r101_dcn_bifpn_finetune", "data.root=D"), "cis_r101_dcn_bifpn", "control"),
        (("experiment=coco_mini_pretrain", "data.root=D"), "coco_mini", "pretrain"),  # although it starts from the crowd's weights
        (("experiment=coco_mini_finetune", "data.root=D"), "coco_mini", "control"),
        (("experiment=photos_finetune", "data.root=D"), "photos", "control"),
        (("experiment=photos_finetune_teacher", "data.root=D"), "photos", "teacher"),
        (("experiment=crowd_tiny_finetune_overlap", "loss.weights.overlap=0.5", "name=grid_0.5"), "grid", "overlap"),
        (("experiment=crowd_tiny_finetune_overlap", "loss.weights.overlap=0", "name=grid_0.0"), "grid", "control"),
        (("experiment=crowd_tiny_finetune_overlap", "name=cis_r50_fpn_ov2.0"), "cis_r50_fpn", "overlap"),
        (("name=run_7",), "run_7", "pretrain"),
    ],
)
def test_runs_to_compare_share_a_group(overrides: tuple[str, ...], group: str, stage: str) -> None:
    told = about(*overrides)
    assert (group_of(told), stage_of(told)) == (group, stage)


def test_tags_name_stage_network_data_and_lambda() -> None:
    assert tags_of(about("experiment=cis_r101_dcn_bifpn_finetune_overlap", "data.root=/data/CrowdHuman/")) == [
        "overlap",
        "r101_dcn_bifpn",
        "CrowdHuman",
        "lambda 2",
    ]
    assert tags_of(about("experiment=photos_pretrain", "data.root=D"))[:3] == ["pretrain", "mobilenet_v2_fpn", "D"]
    assert tags_of(about("supervision=mask"))[-2:] == ["lambda 0", "true masks"]
    assert all(0 < len(tag) <= LONGEST_TAG for tag in tags_of(about(f"data.root={'x' * 100}")))


ONLINE = """
import sys
from cis_seg.training.callbacks.wandb_logging.logger import RunLogger
from cis_seg.errors import ConfigError
about = {"name": "n", "init_from": None, "base_overrides": None, "overlap": 0.0, "supervision": "box", "data": "d", "neck": "fpn"}
about["teacher"] = 0.0
about["backbone"] = {"name": "resnet", "depth": 18, "width": 64, "deform_interval": 0}
try:
    RunLogger(about=about, offline=False, save_dir=sys.argv[1]).log_hyperparams({})
except ConfigError as error:
    print(error)
"""


@pytest.mark.slow
def test_online_without_an_account_is_rejected_with_a_message(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ONLINE, str(tmp_path)], env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "W&B could not start this run" in done.stdout
    assert "wandb login" in done.stdout
    assert "logger.wandb.offline=true" in done.stdout
