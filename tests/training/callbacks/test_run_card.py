"""The run card of a real small run; and the network's summary against torch's own counter and numbers by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from cis_seg.commands.train import train
from cis_seg.config.plain import to_dataclass
from cis_seg.model.build import build_model
from cis_seg.model.condinst import CondInst
from cis_seg.training.callbacks.run_card import summarize, summary_table
from runs import SMALL, composed, places


@pytest.mark.parametrize("half_size_steps", [0, 1])
def test_run_card_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], half_size_steps: int) -> None:
    """The multiply-adds are those at the full size, also if the first images have half of it: 48x64, padded to 64x64."""
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2", f"data.half_size_steps={half_size_steps}")
    cfg = composed(*SMALL, *steps, *places(tmp_path))
    train(cfg, ["name=two words", *steps])
    run = Path(cfg.paths.run)
    card = (run / "card.md").read_text()
    assert f"    python -m cis_seg.train 'name=two words' {' '.join(steps)}\n" in card
    assert "from step 0 to 2, 2 images per step, 1 x" in card
    assert "8 training images, 3 to score; classes: person" in card
    assert "supervision=box: " in card
    assert "multiply-adds at 96x128 |" in card
    assert f"torch {torch.__version__.split('+')[0]}" in card
    content = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    head = sum(v.numel() for k, v in content["state_dict"].items() if k.startswith("model.head."))
    assert f"| head | {head:,} | {head:,} |" in card
    assert f"{head:,}" in capsys.readouterr().err, "the summary is on the screen too"


NARROW = (
    "model.neck_channels=32",
    "model.head_channels=32",
    "model.head_norm_groups=4",
    "model.backbone.width=16",
    "model.backbone.weights=null",
)


def network(name: str, *overrides: str) -> CondInst:
    return build_model(to_dataclass(composed(f"model={name}", *NARROW, *overrides)).model, num_classes=3)


@pytest.mark.parametrize("name", ["condinst_r50_fpn", "condinst_r50_bifpn", "condinst_mobilenet_v2", "condinst_tiny"])
def test_multiply_adds_are_half_of_torchs_flops(name: str) -> None:
    model = network(name).eval()
    summary = summarize(model, 64, 96)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    counts = counter.get_flop_counts()
    assert {p.name: 2 * p.multiply_adds for p in summary.parts} == {
        p.name: sum(n for op, n in counts[f"CondInst.{p.name}"].items() if "conv" in str(op)) for p in summary.parts
    }
    assert summary.total.parameters == sum(p.numel() for p in model.parameters())
    assert model.training is False
    assert next(model.parameters()).device.type == "cpu", "the network itself stays where it is"


def test_deformable_convolutions_count_with_their_offsets() -> None:
    rigid, deformable = (summarize(network("condinst_r50_fpn", f"model.backbone.deform_interval={n}"), 64, 64).parts[0] for n in (0, 1))
    channels = {8: 32, 16: 64, 32: 128}  # stride -> inner channels of stages 3 to 5 at width 16
    blocks = {8: 4, 16: 6, 32: 3}
    offsets = sum(blocks[s] * 27 * 9 * channels[s] * (64 // s) ** 2 for s in channels)
    assert deformable.multiply_adds - rigid.multiply_adds == offsets


def test_generated_parameters_and_frozen_ones() -> None:
    summary = summarize(network("condinst_r50_fpn", "model.backbone.weights=imagenet"), 480, 640)
    assert summary.generated == 233
    assert summary.multiply_adds_per_person == 60 * 80 * (18 * 8 + 8 * 8 + 8)
    assert summary.strides == (8, 16, 32, 64, 128)
    assert summary.mask_strides == (8, 4)
    backbone = summary.parts[0]
    assert backbone.trained < backbone.parameters
    out = io.StringIO()
    Console(file=out, width=120).print(summary_table(summary))
    assert f"{backbone.parameters:,}" in out.getvalue()
    assert "233 generated per instance" in out.getvalue()
