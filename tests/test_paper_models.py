"""The five networks of the paper's tables by their config names: sizes, and twenty steps on the generated crowd, as the light network."""

from __future__ import annotations

import csv
import functools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from cis_seg.config.plain import to_dataclass
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.model.layers import ModulatedDeformConv2d
from runs import SMALL, composed, small_run, weights_of

#: config name -> the reference's name, its parameters with 80 classes, those that are trained
MODELS = {
    "condinst_r50_fpn": ("R50_FPN", 34_259_731, 34_037_331),
    "condinst_r101_fpn": ("R101_FPN", 53_199_635, 52_977_235),
    "condinst_r50_bifpn": ("R50_BiFPN", 38_884_389, 38_661_989),
    "condinst_r101_bifpn": ("R101_BiFPN", 57_824_293, 57_601_893),
    "condinst_r101_dcn_bifpn": ("R101_BiFPN_DCN", 59_753_551, 59_531_151),
}


@functools.cache
def _without_numbers(name: str) -> CondInst:
    typed = to_dataclass(composed(f"model={name}"))
    with torch.device("meta"):
        return build_model(typed.model, num_classes=80)


def _counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", MODELS)
def test_number_of_parameters(name: str) -> None:
    assert _counts(_without_numbers(name)) == MODELS[name][1:]


@pytest.mark.parametrize("name", MODELS)
def test_number_of_parameters_is_the_references(golden: Path, name: str) -> None:
    theirs = json.loads((golden / "names_shapes.json").read_text())[MODELS[name][0]]
    assert MODELS[name][1:] == (theirs["num_parameters"], theirs["num_trainable"])
    model = _without_numbers(name)
    frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
    assert len(frozen) == len(theirs["frozen_parameters"]), "the convolutions of the stem and of stage 2"
    shapes = sorted(list(p.shape) for name, p in model.named_parameters() if name != "head.scales")
    expected = [shape for key, (shape, _, kind) in theirs["state_dict"].items() if kind == "param" and ".scales." not in key]
    assert shapes == sorted(expected), "one tensor for each of the reference's, but for the five levels' scales"


def test_layer_types_of_the_strongest_model() -> None:
    model = _without_numbers("condinst_r101_dcn_bifpn")
    deformable = [name for name, m in model.backbone.named_modules() if isinstance(m, ModulatedDeformConv2d)]
    assert len(deformable) == 30
    assert not any(name.startswith("layer1.") for name in deformable)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.neck.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.modules())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in model.backbone.modules())
    towers = [m for m in model.head.modules() if isinstance(m, nn.GroupNorm)]
    assert {(m.num_groups, m.num_channels) for m in towers} == {(32, 160)}
    assert {m.in_channels for m in model.head.modules() if isinstance(m, nn.Conv2d)} == {160}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs that share one generated crowd."""
    return tmp_path_factory.mktemp("models")


TRAINED = [(name, precision) for name in (*MODELS, "r50_dcn_bifpn", "condinst_mobilenet_v2") for precision in ("32-true", "bf16-mixed")]
FAST = [("condinst_r50_fpn", "32-true"), ("r50_dcn_bifpn", "bf16-mixed"), ("condinst_mobilenet_v2", "bf16-mixed")]


@pytest.mark.parametrize(("name", "precision"), [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in TRAINED])
def test_twenty_steps(crowd: Path, name: str, precision: str) -> None:
    own = [option for option in SMALL if not option.startswith(("model.backbone.depth", "data.num_val"))]
    # deformable blocks in the smaller network too, for those who skip the slow tests
    model = ["model=condinst_r50_bifpn", "model.backbone.deform_interval=3"] if name == "r50_dcn_bifpn" else [f"model={name}"]
    small = ("model.backbone.weights=null", "model.head_convs=1", "model.head_norm_groups=4", "model.mask_branch_convs=1", "data.num_val=1")
    steps = ("schedule.max_steps=20", "schedule.val_every=20", "schedule.save_every=20", f"trainer.precision={precision}")
    run = small_run(crowd, f"paths.data={crowd}/data", f"name={name}_{precision}", *model, *small, *steps, base=own)
    with (run / "csv" / "version_0" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert all(value.isfinite().all() for value in weights_of(run).values())
