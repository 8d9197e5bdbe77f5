"""ImageNet backbones under detectron2's and Caffe2's names become a file that the backbone loads."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adelaidet_file import small_config
from cis_seg.errors import CheckpointError
from cis_seg.model.adelaidet.convert import Conversion
from cis_seg.model.adelaidet.files import convert_file
from cis_seg.model.build import build_model, load_backbone
from cis_seg.model.resnet import ResNet

OWN = {name: torch.rand(value.shape) + 0.5 for name, value in ResNet(depth=50, width=16, frozen_norm=True).state_dict().items()}


def detectron2(name: str) -> str:
    for pattern, replacement in (
        (r"^conv1", "stem.conv1"),
        (r"^bn1", "stem.conv1.norm"),
        (r"\.bn(\d)", r".conv\1.norm"),
        (r"downsample\.0", "shortcut"),
        (r"downsample\.1", "shortcut.norm"),
    ):
        name = re.sub(pattern, replacement, name)
    return re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)


def caffe2(name: str) -> str:
    name = {"conv1.weight": "conv1_w", "bn1.weight": "res_conv1_bn_s", "bn1.bias": "res_conv1_bn_b"}.get(name, name)
    if m := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(weight|bias)", name):
        kind = {"conv": "w", "bn": "bn_s" if m[5] == "weight" else "bn_b"}[m[3]]
        return f"res{int(m[1]) + 1}_{m[2]}_branch2{'abc'[int(m[4]) - 1]}_{kind}"
    if m := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.(\d)\.(weight|bias)", name):
        kind = "w" if m[3] == "0" else ("bn_s" if m[4] == "weight" else "bn_b")
        return f"res{int(m[1]) + 1}_{m[2]}_branch1_{kind}"
    return name


def converted(content: Any, folder: Path) -> Conversion:
    (folder / "R-50.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return convert_file(folder / "R-50.pkl", folder / "R-50.pth")


def loaded(folder: Path) -> dict[str, Tensor]:
    """Return the backbone as loaded at the start of training."""
    config = small_config(depth=50)
    config.backbone.weights = str(folder / "R-50.pth")
    model = build_model(config, 1)
    load_backbone(model, config.backbone)
    return dict(model.backbone.state_dict())


@pytest.mark.parametrize(("author", "advice"), [("torchvision", "needs no further settings"), ("", "model.backbone.stride_in_1x1=true")])
def test_detectron2_names(author: str, advice: str, tmp_path: Path) -> None:
    arrays = {detectron2(name): value.numpy() for name, value in OWN.items()} | {"stem.fc.weight": np.ones((1000, 4), np.float32)}
    conversion = converted({"model": arrays, "__author__": author, "matching_heuristics": True}, tmp_path)
    state = loaded(tmp_path)
    assert all(torch.equal(state[name], OWN[name]) for name in OWN)
    text = "\n".join(conversion.notes)
    assert "dropped: stem.fc.weight" in text
    assert advice in text
    assert ("model.channel_order=bgr" in text) == (author == "")


@pytest.mark.parametrize("wrapped", [True, False])
def test_caffe2_names(wrapped: bool, tmp_path: Path) -> None:
    arrays = {caffe2(name): value.numpy() for name, value in OWN.items() if "running" not in name}
    arrays |= {"fc1000_w": np.ones((1000, 4), np.float32), "fc1000_b": np.ones(1000, np.float32), "conv1_b": np.zeros(8, np.float32)}
    conversion = converted({"blobs": arrays} if wrapped else arrays, tmp_path)
    state = loaded(tmp_path)
    assert all(torch.equal(state[name], OWN[name]) for name in OWN if "running" not in name)
    assert not any(state[name].any() for name in OWN if name.endswith("running_mean"))
    scales = torch.stack([(state[name] + 1e-5).rsqrt().mean() for name in OWN if name.endswith("running_var")])
    torch.testing.assert_close(scales, torch.ones_like(scales), atol=1e-6, rtol=0)
    assert "fc1000_w, fc1000_b, stem.conv1.bias" in "\n".join(conversion.notes)


def test_wrong_tensors_are_named(tmp_path: Path) -> None:
    arrays = {detectron2(name): value.numpy() for name, value in OWN.items()}
    arrays["res3.1.conv2.weight"] = np.ones((32, 32, 5, 5), np.float32)
    del arrays["res5.2.conv3.norm.bias"]
    with pytest.raises(CheckpointError) as info:
        converted({"model": arrays}, tmp_path)
    assert "missing res5.2.conv3.norm.bias (512,)" in str(info.value)
    assert "res3.1.conv2.weight: expected (32, 32, 3, 3), found (32, 32, 5, 5)" in str(info.value)
    assert not (tmp_path / "R-50.pth").exists()
