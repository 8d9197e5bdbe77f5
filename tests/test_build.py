"""From the config to the objects around the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cis_seg.build import build_data, build_module, build_training_data
from cis_seg.config.schema import CrowdHumanData, OptimConfig
from cis_seg.config.validation import checked
from runs import SMALL, composed
from small_coco import coco_folder


def test_the_config_reaches_criterion_and_postprocess(tmp_path: Path) -> None:
    own = [option for option in SMALL if not option.startswith("data.num_")]
    values = ("loss.weights.cls=2", "loss.pairwise.size=5", "loss.overlap.reduction=sum", "eval.nms_threshold=0.3", "seed=3")
    values += ("memory_format=contiguous",)
    cfg = checked(composed(*own, "data=coco", f"data.root={coco_folder(tmp_path / 'coco')}", *values))
    module = build_module(cfg, {}, build_data(cfg.data, home=tmp_path, optim=cfg.optim))
    criterion, post = module.criterion, module.postprocess
    assert criterion.weights == vars(cfg.loss.weights)
    assert (criterion.pairwise, criterion.overlap, criterion.seed) == (cfg.loss.pairwise, cfg.loss.overlap, 3)
    assert criterion.mask_out_stride == cfg.model.mask_out_stride == 2
    assert (post.detection.score_threshold, post.detection.nms_threshold, post.detection.max_detections) == (0.05, 0.3, 100)
    assert module.model.memory_format == torch.contiguous_format
    assert (post.candidates_per_level, post.mask_threshold) == (1000, 0.5)


@pytest.mark.parametrize("ignore_regions", [True, False])
def test_data_config_reaches_the_reader(tmp_path: Path, ignore_regions: bool) -> None:
    person = {"tag": "person", "vbox": [1, 2, 8, 9], "fbox": [1, 2, 8, 9], "hbox": [2, 3, 3, 3]}
    region = {**person, "tag": "mask", "vbox": [20, 2, 8, 9]}
    (tmp_path / "annotation_train.odgt").write_text(json.dumps({"ID": "27,a", "gtboxes": [person, region]}) + "\n{")
    (tmp_path / "Images").mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / "Images" / "27,a.jpg")
    cfg = CrowdHumanData(root=str(tmp_path), train_sizes=[24], workers=0, ignore_regions=ignore_regions, max_faulty=0.5, boxes="visible")
    (target,) = next(iter(build_data(cfg, home=tmp_path, optim=OptimConfig(batch_size=1)).train_dataloader())).targets
    assert target.boxes.shape == (1, 4)
    assert (target.ignore_boxes is not None) == ignore_regions


@pytest.mark.parametrize(
    ("scores", "least"),
    [
        ([0.8] + [0.3] * 19, 0.75),  # a twentieth of the noisy masks can be used
        ([0.8] + [0.3] * 20, 1.0),  # less: none is
        ([0.8] + [0.3] * 18 + [1.0] * 5, 0.75),  # true masks do not count
        ([0.3] * 30, 0.75),  # none could be used anyway
        ([1.0] * 3, 0.75),
    ],
)
def test_noisy_masks_of_an_unreliable_source_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scores: list[float], least: float
) -> None:
    root = coco_folder(tmp_path / "coco")
    file = root / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    content["annotations"] = [first | {"id": number, "score": score} for number, score in enumerate(scores, start=1)]
    file.write_text(json.dumps(content))
    own = [option for option in SMALL if not option.startswith("data.num_")]
    cfg = checked(composed(*own, "data=coco", f"data.root={root}", "supervision=mixed"))
    assert build_module(cfg, {}, build_training_data(cfg)).criterion.mixed.least_score == least
    assert ("1 of 21 masks with a score below 1 reach mixed.least_score=0.75, less than a twentieth" in caplog.text) == (least == 1)


def test_default_of_ignore_regions_by_data_set() -> None:
    """CrowdHuman does, the generated crowd does not: its figures were measured so."""
    assert composed("data=crowdhuman", "data.root=x").data.ignore_regions
    assert not composed("data=crowd").data.ignore_regions
