"""Conversion of full models: inferred architecture, converted tensors, and refusals."""

from __future__ import annotations

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adelaidet_file import small_config, small_state
from cis_seg.coco.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from cis_seg.errors import ConfigError
from cis_seg.inference.predictor import load_trained
from cis_seg.model.adelaidet.convert import classes

HEAD = "proposal_generator.fcos_head"


main = runpy.run_path(str(Path(__file__).resolve().parents[3] / "scripts" / "convert_adelaidet.py"))["main"]


def run(tensors: dict[str, Tensor], folder: Path, *options: str) -> Path:
    torch.save({"model": tensors, "iteration": 90_000}, folder / "in.pth")
    assert main([str(folder / "in.pth"), str(folder / "deep" / "out.ckpt"), *options]) == 0
    return folder / "deep" / "out.ckpt"


def refusal(tensors: dict[str, Tensor], folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    torch.save({"model": tensors}, folder / "in.pth")
    assert main([str(folder / "in.pth"), str(folder / "out.ckpt"), *options]) == 2
    assert not list(folder.glob("out.ckpt*")), "no partial file remains"
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    return message


@pytest.mark.parametrize(
    ("neck", "depth", "deform_interval"), [("fpn", 10, 0), ("bifpn", 10, 0), ("bifpn", 50, 1), ("fpn", 50, 3), ("fpn", 34, 0)]
)
def test_all_tensors_are_converted(neck: str, depth: int, deform_interval: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config(neck, depth=depth, deform_interval=deform_interval)
    own, theirs = small_state(config)
    path = run(theirs, tmp_path)
    content = torch.load(path, weights_only=True)
    assert content["cis_seg"]["config"]["model"] == asdict(config), "the architecture is inferred from names and shapes"
    trained = load_trained(path)
    model, class_names = trained.model, trained.class_names
    assert class_names == COCO_CLASSES
    found = model.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    text = " ".join(capsys.readouterr().out.split())
    assert f"ResNet-{depth}" in text
    assert "mask_head._iter 90000" in text
    assert "not converted: iteration" in text
    assert f"{sum(p.numel() for p in model.parameters()):,}" in text


@pytest.mark.parametrize(("count", "names"), [(80, COCO_CLASSES), (1, ("person",))])
def test_classes_and_category_ids(count: int, names: tuple[str, ...], tmp_path: Path) -> None:
    metadata = torch.load(run(small_state(small_config(), count)[1], tmp_path), weights_only=True)["cis_seg"]
    assert tuple(metadata["class_names"]) == names
    assert tuple(metadata["category_ids"]) == COCO_CATEGORY_IDS[:count]


def test_other_classes_need_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, theirs = small_state(small_config(), 3)
    for options in ([], ["--classes", "a,b"], ["--classes", "a,b,b"]):
        message = refusal(theirs, tmp_path, capsys, *options)
        assert "the classifier has 3 classes" in message
        assert "--classes" in message
    metadata = torch.load(run(theirs, tmp_path, "--classes", "a,b,c"), weights_only=True)["cis_seg"]
    assert (metadata["class_names"], metadata["category_ids"]) == (["a", "b", "c"], [1, 2, 3])
    assert classes(2, ["car", "person"]) == (("car", "person"), (3, 1)), "COCO's ids if all names are COCO's"
    with pytest.raises(ConfigError, match="expected: 1 different"):
        classes(1, ["a", "b"])


def test_coco_classes() -> None:
    pairs = dict(zip(COCO_CLASSES, COCO_CATEGORY_IDS, strict=True))
    assert (len(pairs), pairs["person"], pairs["stop sign"], pairs["backpack"], pairs["tv"], pairs["toothbrush"]) == (80, 1, 13, 27, 72, 90)


def test_statistics_in_the_file_take_precedence(tmp_path: Path) -> None:
    _, theirs = small_state(small_config())
    theirs |= {"pixel_mean": torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), "pixel_std": torch.tensor([4.0, 5.0, 6.0]).view(3, 1, 1)}
    model = load_trained(run(theirs, tmp_path)).model
    assert model.pixel_mean.flatten().tolist() == [1, 2, 3]
    assert model.pixel_std.flatten().tolist() == [4, 5, 6]


FAULTS = {
    "missing": (lambda t: t.pop("backbone.fpn_output4.weight"), "missing backbone.fpn_output4.weight (16, 16, 3, 3)"),
    "missing block": (lambda t: t.pop("backbone.bottom_up.res3.0.conv2.weight"), "missing backbone.bottom_up.res3.0.conv2.weight"),
    "missing controller": (lambda t: t.pop("controller.bias"), "missing controller.bias (137,)"),
    "unexpected": (lambda t: t.update({"mask_branch.logits.weight": torch.ones(80, 8)}), "unexpected mask_branch.logits.weight (80, 8)"),
    "wrong shape": (
        lambda t: t.update({"backbone.fpn_lateral3.weight": torch.ones(12, 16, 1, 1)}),
        "backbone.fpn_lateral3.weight: expected (16, 32, 1, 1), found (12, 16, 1, 1)",
    ),
    "wrong shape tower": (
        lambda t: t.update({f"{HEAD}.cls_tower.0.weight": torch.ones(64, 16, 3, 3)}),
        f"{HEAD}.cls_tower.0.weight: expected (32, 16, 3, 3), found (64, 16, 3, 3)",
    ),
    "another controller": (lambda t: t.update({"controller.bias": torch.ones(169)}), "controller.bias: expected (137,), found (169,)"),
    "missing scale": (lambda t: t.pop(f"{HEAD}.scales.3.scale"), f"missing {HEAD}.scales.3.scale (1,)"),
    "sizes of interest": (lambda t: t.update({"mask_head.sizes_of_interest": torch.tensor([32, 64, 128, 256, 512])}), "[32, 64, 128"),
    "too few blocks": (
        lambda t: [t.pop(name) for name in list(t) if ".res4." in name],
        "(1, 1, 0, 1)",
    ),
    "no mask branch": (lambda t: [t.pop(name) for name in list(t) if name.startswith("mask_branch.")], "no tensors of a mask branch"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_wrong_tensors_are_named(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm, expected = FAULTS[kind]
    _, theirs = small_state(small_config())
    harm(theirs)  # type: ignore[no-untyped-call]
    assert expected in refusal(theirs, tmp_path, capsys)


def test_unsupported_deformable_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, theirs = small_state(small_config(depth=50, deform_interval=1))
    for name in list(theirs):
        if "res3.1.conv2_offset" in name:
            del theirs[name]
    message = refusal(theirs, tmp_path, capsys)
    assert "res3.0, res3.2" in message
    assert "every n-th block" in message


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal({"conv1.weight": torch.ones(8, 3, 7, 7), "fc.weight": torch.ones(2, 2)}, tmp_path, capsys)
    assert "conv1.weight" in message
    assert main([str(tmp_path / "lost.pth"), str(tmp_path / "out.ckpt")]) == 2
    assert "lost.pth" in capsys.readouterr().err
    own = tmp_path / "in.pth"
    before = own.read_bytes()
    assert main([str(own), str(own)]) == 2
    assert "would replace the input" in capsys.readouterr().err
    assert own.read_bytes() == before
