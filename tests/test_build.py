"""From the config to the objects around the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cis_seg.build import build_criterion, build_data, build_postprocess
from cis_seg.config.conf_dir import conf_dir
from cis_seg.config.schema import CrowdHumanData, EvalConfig, LossConfig, LossWeights, OptimConfig, PairwiseConfig
from runs import composed


def test_loss_config_reaches_the_criterion() -> None:
    pairwise = PairwiseConfig(size=5, dilation=1, color_thresh=0.1, warmup_steps=7, truncate_colors=False, bottom_margin=3)
    criterion = build_criterion(LossConfig(weights=LossWeights(cls=2.0, mask=0.5, proj=0.0), pairwise=pairwise), 8)
    assert criterion.needs_gt_masks
    weights = {name: criterion.weights[name] for name in ("cls", "box", "ctr", "mask", "proj", "pairwise")}
    assert weights == {"cls": 2, "box": 1, "ctr": 1, "mask": 0.5, "proj": 0, "pairwise": 1}
    assert criterion.mask_out_stride == 8
    assert (criterion.pairwise_size, criterion.pairwise_dilation, criterion.color_thresh) == (5, 1, 0.1)
    assert (criterion.pairwise_warmup_steps, criterion.truncate_colors, criterion.bottom_margin) == (7, False, 3)


def test_eval_config_reaches_postprocess() -> None:
    post = build_postprocess(EvalConfig(score_threshold=0.2, nms_threshold=0.3, max_detections=4))
    assert (post.score_threshold, post.nms_threshold, post.max_detections) == (0.2, 0.3, 4)
    default = build_postprocess(EvalConfig())
    assert (default.score_threshold, default.candidates_per_level, default.nms_threshold) == (0.05, 1000, 0.6)
    assert (default.max_detections, default.mask_threshold) == (100, 0.5)


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


def test_who_ignores_regions() -> None:
    """CrowdHuman does, the generated crowd does not (its figures were measured so), nor do the paper's experiments."""
    assert composed("data=crowdhuman", "data.root=x").data.ignore_regions
    assert not composed("data=crowd").data.ignore_regions
    names = [path.stem for path in Path(conf_dir(), "experiment").glob("cis_*.yaml")]
    assert len(names) >= 9
    assert not any(composed(f"experiment={name}", "data.root=x").data.ignore_regions for name in names)
