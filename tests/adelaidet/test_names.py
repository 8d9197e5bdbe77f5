"""The name map against hand-written pairs."""

from __future__ import annotations

import pytest

from cis_seg.model.adelaidet.weights import BIFPN_BODY, FPN_BODY, their_names

HEAD = "proposal_generator.fcos_head"


@pytest.mark.parametrize(
    ("ours", "body", "theirs"),
    [
        ("backbone.conv1.weight", FPN_BODY, "backbone.bottom_up.stem.conv1.weight"),
        ("backbone.bn1.running_var", BIFPN_BODY, "backbone.bottom_up.backbone.stem.conv1.norm.running_var"),
        ("backbone.layer1.0.conv3.weight", FPN_BODY, "backbone.bottom_up.res2.0.conv3.weight"),
        ("backbone.layer3.22.bn2.bias", FPN_BODY, "backbone.bottom_up.res4.22.conv2.norm.bias"),
        ("backbone.layer4.0.downsample.0.weight", FPN_BODY, "backbone.bottom_up.res5.0.shortcut.weight"),
        ("backbone.layer4.0.downsample.1.bias", FPN_BODY, "backbone.bottom_up.res5.0.shortcut.norm.bias"),
        ("backbone.layer2.1.conv2.offset.bias", BIFPN_BODY, "backbone.bottom_up.backbone.res3.1.conv2_offset.bias"),
        ("backbone.layer2.1.conv2.weight", BIFPN_BODY, "backbone.bottom_up.backbone.res3.1.conv2.weight"),
        ("neck.fpn.inner_blocks.0.0.weight", FPN_BODY, "backbone.fpn_lateral3.weight"),
        ("neck.fpn.layer_blocks.2.0.bias", FPN_BODY, "backbone.fpn_output5.bias"),
        ("neck.fpn.extra_blocks.p7.weight", FPN_BODY, "backbone.top_block.p7.weight"),
        ("neck.reduction.0.weight", BIFPN_BODY, "backbone.bottom_up.res6.reduction.weight"),
        ("neck.reduction.1.running_mean", BIFPN_BODY, "backbone.bottom_up.res6.reduction.norm.running_mean"),
        ("neck.repeats.0.laterals.2.0.bias", BIFPN_BODY, "backbone.repeated_bifpn.0.lateral_2_f2.bias"),
        ("neck.repeats.0.laterals.2.1.bias", BIFPN_BODY, "backbone.repeated_bifpn.0.lateral_2_f2.norm.bias"),
        ("neck.repeats.3.nodes.0.weights", BIFPN_BODY, "backbone.repeated_bifpn.3.weights_f3_3_4"),
        ("neck.repeats.3.nodes.4.weights", BIFPN_BODY, "backbone.repeated_bifpn.3.weights_f1_1_7_8"),
        ("neck.repeats.5.nodes.7.output.0.weight", BIFPN_BODY, "backbone.repeated_bifpn.5.outputs_f4_4_11.weight"),
        ("neck.repeats.5.nodes.6.output.1.weight", BIFPN_BODY, "backbone.repeated_bifpn.5.outputs_f3_3_5_10.norm.weight"),
        ("head.cls_tower.10.bias", FPN_BODY, f"{HEAD}.cls_tower.10.bias"),
        ("head.box_tower.0.weight", FPN_BODY, f"{HEAD}.bbox_tower.0.weight"),
        ("head.box_pred.bias", FPN_BODY, f"{HEAD}.bbox_pred.bias"),
        ("head.centerness.weight", FPN_BODY, f"{HEAD}.ctrness.weight"),
        ("head.controller.bias", FPN_BODY, "controller.bias"),
        ("mask_branch.refine.2.1.num_batches_tracked", FPN_BODY, "mask_branch.refine.2.1.num_batches_tracked"),
        ("mask_branch.tower.4.weight", FPN_BODY, "mask_branch.tower.4.weight"),
    ],
)
def test_pairs(ours: str, body: str, theirs: str) -> None:
    assert their_names(ours, body) == [theirs]


def test_level_scales_are_one_parameter() -> None:
    assert their_names("head.scales", FPN_BODY) == [f"{HEAD}.scales.{i}.scale" for i in range(5)]


def test_tensor_without_a_rule() -> None:
    with pytest.raises(AssertionError, match=r"neck\.new_part"):
        their_names("neck.new_part", FPN_BODY)
