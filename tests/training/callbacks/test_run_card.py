"""The run card of a real small run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cis_seg.commands.train import train
from runs import SMALL, composed, places


def test_run_card_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")
    cfg = composed(*SMALL, *steps, *places(tmp_path))
    train(cfg, ["name=two words", *steps])
    run = Path(cfg.paths.run)
    card = (run / "card.md").read_text()
    assert f"    python -m cis_seg.train 'name=two words' {' '.join(steps)}\n" in card
    assert "from step 0 to 2, 2 images per step, 1 x" in card
    assert "8 training images, 3 to score; classes: person" in card
    assert "supervision=box: " in card
    assert f"torch {torch.__version__.split('+')[0]}" in card
    content = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    head = sum(v.numel() for k, v in content["state_dict"].items() if k.startswith("model.head."))
    assert f"| head | {head:,} | {head:,} |" in card
    assert f"{head:,}" in capsys.readouterr().err, "the summary is on the screen too"
