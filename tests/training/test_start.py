"""Fine-tuning and scoring from weights that expect other pixels and know other classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from adelaidet_file import small_config, small_state
from cis_seg.coco.classes import COCO_CLASSES
from cis_seg.commands import evaluate
from cis_seg.commands.evaluate import scored_classes
from cis_seg.errors import CheckpointError
from cis_seg.inference.predictor import load_trained
from cis_seg.model.adelaidet.files import convert_file
from cis_seg.training.initial_weights import follow_weights
from runs import SMALL, composed, metrics_of, places, small_run

#: the network of ``small_config`` with what torchvision's weights would expect
NETWORK = (
    "model=condinst_r50_fpn",
    "model.backbone.depth=10",
    "model.backbone.width=16",
    "model.backbone.frozen_stages=2",
    "model.neck_channels=16",
    "model.head_channels=32",
    "model.head_convs=2",
    "model.mask_branch_channels=8",
    "model.mask_branch_convs=1",
    "model.mask_feat_channels=4",
)
DATA = tuple(option for option in SMALL if not option.startswith("model."))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BoxInst of AdelaiDet's names, 80 classes, after conversion."""
    folder = tmp_path_factory.mktemp("converted")
    _, theirs = small_state(small_config())
    theirs = {name: value * 0.1 if value.dim() == 4 else value for name, value in theirs.items()}
    theirs["proposal_generator.fcos_head.cls_logits.weight"].zero_()
    theirs["proposal_generator.fcos_head.cls_logits.bias"] = bias = torch.full((80,), -9.0)
    bias[[0, 56]] = torch.tensor([1.0, 2.0])  # people and, surer, chairs everywhere
    torch.save({"model": theirs}, folder / "in.pth")
    convert_file(folder / "in.pth", folder / "boxinst.ckpt")
    return folder / "boxinst.ckpt"


def test_a_fine_tune_follows_what_the_weights_expect(converted: Path, tmp_path: Path) -> None:
    steps = ("schedule.max_steps=1", "schedule.val_every=1", "schedule.save_every=1", "optim.lr=0.0", "optim.weight_decay=0.0")
    run = small_run(tmp_path, "name=tuned", f"init_from='{converted}'", *steps, *NETWORK, base=DATA)
    trained = load_trained(run / "checkpoints" / "last.ckpt")
    model, class_names = trained.model, trained.class_names
    base = load_trained(converted).model
    assert class_names == ("person",)
    assert model.channel_order == "bgr"
    assert model.backbone.layer2[0].conv1.stride == base.backbone.layer2[0].conv1.stride
    card = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["cis_seg"]["config"]["model"]
    assert (card["channel_order"], card["pixel_std"], card["backbone"]["stride_in_1x1"]) == ("bgr", [1.0, 1.0, 1.0], True)
    assert OmegaConf.load(run / "config.yaml").model.channel_order == "bgr"
    assert torch.equal(model.head.cls_logits.bias, base.head.cls_logits.bias[:1])
    for name, value in model.named_parameters():
        if "cls_logits" not in name:
            assert torch.equal(value, base.get_parameter(name)), name


def test_only_what_belongs_to_weights_follows_them(converted: Path) -> None:
    cfg = composed("model=condinst_r50_fpn", "model.masks_per_image=7")
    before = OmegaConf.to_container(cfg.model)
    after = OmegaConf.to_container(follow_weights(cfg, converted).model)
    assert OmegaConf.to_container(cfg.model) == before, "a new config, the given one is unchanged"
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"channel_order", "pixel_mean", "pixel_std", "backbone"}
    assert after["backbone"] == before["backbone"] | {"stride_in_1x1": True}, "auto is frozen where there are ImageNet weights"


@pytest.mark.parametrize("restricted", [False, True])
def test_weights_of_80_classes_are_scored_on_people(converted: Path, tmp_path: Path, restricted: bool) -> None:
    data = [places(tmp_path)[1], *(o for o in DATA if o.startswith("data."))]
    if restricted:
        data += ["eval.max_detections=5"]
    evaluate.evaluate(composed(f"checkpoint='{converted}'", f"output={tmp_path}/out", *data, name="evaluate"))
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entries
    assert {entry["category_id"] for entry in entries} == {1}
    assert "segm/AP/person" in metrics_of(tmp_path / "out")
    if restricted:
        assert len(entries) == 3 * 5, "chairs, surer everywhere, take no place from people"


def test_which_classes_are_scored() -> None:
    path = Path("some.ckpt")
    assert scored_classes(COCO_CLASSES, ["person"], named=True, path=path) == ("person",)
    assert scored_classes(["person"], COCO_CLASSES, named=False, path=path) == ("person",)
    assert scored_classes(["b", "a"], ["a", "b"], named=True, path=path) == ("b", "a"), "the model's order"
    for known, wanted, named in ((["person"], ["person", "car"], True), (["dog"], ["person"], False)):
        with pytest.raises(CheckpointError, match="does not know the class") as info:
            scored_classes(known, wanted, named=named, path=path)
        assert "some.ckpt" in str(info.value)
