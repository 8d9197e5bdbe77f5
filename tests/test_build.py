"""From the config to the objects around the network."""

from __future__ import annotations

from cis_seg.build import build_criterion, build_postprocess
from cis_seg.config import EvalConfig, LossConfig, LossWeights, PairwiseConfig


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
