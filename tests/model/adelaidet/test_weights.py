"""Files of AdelaiDet, detectron2 and Caffe2 are read without running code; the name map against hand-written pairs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cis_seg.errors import CheckpointError
from cis_seg.model.adelaidet.weights import BIFPN_BODY, FPN_BODY, read_weights, their_names

RAN: list[str] = []


class Code:
    """Pickled as a call."""

    def __reduce__(self) -> Any:
        return RAN.append, ("code of the file was run",)


class Command:
    """Pickled as a shell command."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return os.system, (self.text,)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as info:
        read_weights(path)
    assert str(path) in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("content", [{"a.weight": torch.ones(2)}, {"model": {"a.weight": torch.ones(2)}, "iteration": 7, "optimizer": {}}])
def test_torch_files_with_and_without_the_key_model(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    weights = read_weights(tmp_path / "a.pth")
    assert weights.shapes == {"a.weight": (2,)}
    assert weights.ignored == tuple(key for key in content if key in ("iteration", "optimizer"))


def test_the_oldest_format_and_a_distributed_prefix(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(2).half(), "module.b": torch.ones(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    weights = read_weights(tmp_path / "a.pth")
    assert weights.shapes == {"a": (2,), "b": (3,)}
    assert weights.tensors["a"].dtype == torch.float32


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays(protocol: int, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.asfortranarray(np.eye(3)), "n": np.array(5)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "me", "matching_heuristics": True}, protocol=protocol))
    weights = read_weights(tmp_path / "a.pkl")
    assert weights.author == "me"
    assert weights.ignored == ("__author__", "matching_heuristics")
    for name, value in arrays.items():
        assert np.array_equal(weights.tensors[name].numpy(), value)
        assert weights.tensors[name].shape == value.shape


def test_blobs_without_their_momentum(tmp_path: Path) -> None:
    arrays = {"conv1_w": np.ones(2, np.float32), "conv1_w_momentum": np.ones(2, np.float32)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": arrays}))
    assert read_weights(tmp_path / "a.pkl").shapes == {"conv1_w": (2,)}


@pytest.mark.parametrize(("suffix", "protocol"), [(".pkl", 0), (".pkl", 2), (".pkl", 4), (".pth", 2)])
def test_code_is_reported_and_not_executed(suffix: str, protocol: int, tmp_path: Path) -> None:
    path, trace = tmp_path / f"a{suffix}", tmp_path / "trace"
    for content, name in ((Code(), "getattr"), (Command(f"touch {trace}"), "system")):
        if suffix == ".pkl":
            path.write_bytes(pickle.dumps({"model": {"a": np.zeros(2)}, "extra": content}, protocol=protocol))
        else:
            torch.save({"model": {"a": torch.zeros(2)}, "extra": content}, path, pickle_protocol=protocol)
        message = refusal(path)
        assert name in message
        assert "run code" in message
    assert not RAN
    assert not trace.exists()
    os.system(f"touch {trace}")
    assert trace.exists(), "the command itself works"


@pytest.mark.parametrize(
    "allowed_looking",
    [
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\nload\n.",
        b"c_codecs\ndecode\n.",
        b"cbuiltins\neval\n.",
        b"ccollections\nOrderedDict\n.",
    ],
)
def test_only_arrays_are_loaded(allowed_looking: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(allowed_looking)
    assert "not loaded" in refusal(tmp_path / "a.pkl")


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_truncated_files(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"a": np.zeros(2000)}))
    else:
        torch.save({"a": torch.zeros(2000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(path)
    assert f"{int(share * len(content))} bytes" in message
    assert "truncated" in message


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": "text"}, {"model": {"a": np.array(["text"])}}, {"a": np.array([None])}])
def test_pickles_without_a_network(content: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    assert "expected" in refusal(tmp_path / "a.pkl")


def test_missing_and_own_files(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "a.pkl")
    assert "no checkpoint" in refusal(tmp_path / "a.pth")
    torch.save({"state_dict": {}, "cis_seg": {}}, tmp_path / "own.ckpt")
    assert "already a checkpoint" in refusal(tmp_path / "own.ckpt")


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
