"""The names of our tensors in AdelaiDet and detectron2."""

from __future__ import annotations

import re
from collections.abc import Callable

from cis_seg.model.necks import NODES

Rule = tuple[str, Callable[[re.Match[str]], str]]

#: their prefix of the ResNet; a BiFPN wraps it once more
FPN_BODY, BIFPN_BODY = "backbone.bottom_up.", "backbone.bottom_up.backbone."
HEAD = "proposal_generator.fcos_head."
#: one parameter in ours, five scales in theirs
SCALES = "head.scales"


def _block(m: re.Match[str]) -> str:
    return f"res{int(m[1]) + 1}.{m[2]}"


def _node(m: re.Match[str]) -> str:
    """Name a BiFPN node by its level and inputs; our names contain its index."""
    level, inputs = NODES[int(m[2])]
    return f"f{level}_{'_'.join(map(str, inputs))}"


_BLOCK = r"layer(\d)\.(\d+)\."
#: names within the ResNet, without prefixes
BODY_RULES: tuple[Rule, ...] = (
    (r"conv1\.weight", lambda m: "stem.conv1.weight"),
    (r"bn1\.(\w+)", lambda m: f"stem.conv1.norm.{m[1]}"),
    (_BLOCK + r"conv2\.offset\.(\w+)", lambda m: f"{_block(m)}.conv2_offset.{m[3]}"),
    (_BLOCK + r"conv(\d)\.weight", lambda m: f"{_block(m)}.conv{m[3]}.weight"),
    (_BLOCK + r"bn(\d)\.(\w+)", lambda m: f"{_block(m)}.conv{m[3]}.norm.{m[4]}"),
    (_BLOCK + r"downsample\.0\.weight", lambda m: f"{_block(m)}.shortcut.weight"),
    (_BLOCK + r"downsample\.1\.(\w+)", lambda m: f"{_block(m)}.shortcut.norm.{m[3]}"),
)
_REPEAT = r"neck\.repeats\.(\d+)\."
RULES: tuple[Rule, ...] = (
    (r"neck\.fpn\.inner_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_lateral{int(m[1]) + 3}.{m[2]}"),
    (r"neck\.fpn\.layer_blocks\.(\d)\.0\.(\w+)", lambda m: f"backbone.fpn_output{int(m[1]) + 3}.{m[2]}"),
    (r"neck\.fpn\.extra_blocks\.(p\d\.\w+)", lambda m: f"backbone.top_block.{m[1]}"),
    (r"neck\.reduction\.0\.weight", lambda m: "backbone.bottom_up.res6.reduction.weight"),
    (r"neck\.reduction\.1\.(\w+)", lambda m: f"backbone.bottom_up.res6.reduction.norm.{m[1]}"),
    (_REPEAT + r"laterals\.(\d)\.0\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.lateral_{m[2]}_f{m[2]}.{m[3]}"),
    (_REPEAT + r"laterals\.(\d)\.1\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.lateral_{m[2]}_f{m[2]}.norm.{m[3]}"),
    (_REPEAT + r"nodes\.(\d)\.weights", lambda m: f"backbone.repeated_bifpn.{m[1]}.weights_{_node(m)}"),
    (_REPEAT + r"nodes\.(\d)\.output\.0\.weight", lambda m: f"backbone.repeated_bifpn.{m[1]}.outputs_{_node(m)}.weight"),
    (_REPEAT + r"nodes\.(\d)\.output\.1\.(\w+)", lambda m: f"backbone.repeated_bifpn.{m[1]}.outputs_{_node(m)}.norm.{m[3]}"),
    (r"head\.(cls_tower\..+|cls_logits\..+)", lambda m: HEAD + m[1]),
    (r"head\.box_tower\.(.+)", lambda m: f"{HEAD}bbox_tower.{m[1]}"),
    (r"head\.box_pred\.(\w+)", lambda m: f"{HEAD}bbox_pred.{m[1]}"),
    (r"head\.centerness\.(\w+)", lambda m: f"{HEAD}ctrness.{m[1]}"),
    (r"head\.(controller\.\w+)", lambda m: m[1]),
    (r"(mask_branch\..+)", lambda m: m[1]),
)


def their_names(ours: str, body: str, num_levels: int = 5) -> list[str]:
    """Return their names for our tensor: one name, or one scale per level.

    Args:
        ours: name in the state of ``CondInst``; not the pixel statistics, which AdelaiDet does not store.
        body: their prefix of the ResNet.
        num_levels: number of levels of the head.
    """
    if ours == SCALES:
        return [f"{HEAD}scales.{i}.scale" for i in range(num_levels)]
    if ours.startswith("backbone."):
        return [body + _renamed(ours.removeprefix("backbone."), BODY_RULES)]
    return [_renamed(ours, RULES)]


def _renamed(name: str, rules: tuple[Rule, ...]) -> str:
    for pattern, rename in rules:
        if match := re.fullmatch(pattern, name):
            return rename(match)
    raise AssertionError(f"no rule for {name}")
