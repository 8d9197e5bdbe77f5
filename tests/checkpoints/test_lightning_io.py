"""Checkpoint files are written atomically, the previous one is kept, and corrupt ones are detected."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cis_seg.checkpoints import load_file
from cis_seg.errors import CheckpointError
from cis_seg.training.callbacks import checkpoints as checkpoint_io
from cis_seg.training.callbacks.checkpoints import AtomicCheckpointIO
from faulty import differences


def content(step: int) -> dict[str, Any]:
    """Return tensors and plain containers like those of a checkpoint."""
    torch.manual_seed(step)
    return {"global_step": step, "state_dict": {f"w{i}": torch.randn(30, 7) for i in range(5)}, "loops": {"a": [1, 2.5, "three"]}}


def test_the_previous_checkpoint_is_kept(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    for step in (1, 2, 3):
        io.save_checkpoint(content(step), tmp_path / "checkpoints" / "last.ckpt")
    io.save_checkpoint(content(9), tmp_path / "checkpoints" / "best.ckpt")
    found = {path.name: load_file(path)["global_step"] for path in (tmp_path / "checkpoints").iterdir()}
    assert found == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 9}
    assert differences(io.load_checkpoint(tmp_path / "checkpoints" / "last.ckpt"), content(3)) == []


def test_the_previous_checkpoint_is_kept_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(checkpoint_io.os, "link", no_links)
    for step in (1, 2, 3):
        AtomicCheckpointIO().save_checkpoint(content(step), tmp_path / "last.ckpt")
    assert {path.name: load_file(path)["global_step"] for path in tmp_path.iterdir()} == {"last.ckpt": 3, "previous.ckpt": 2}


def test_every_flipped_bit_is_detected_or_harmless(tmp_path: Path) -> None:
    """Bits of the archive's padding and time stamps are harmless: the content is the same."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(1), path)
    good, draw, detected = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        corrupt = bytearray(good)
        corrupt[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        path.write_bytes(corrupt)
        try:
            assert differences(load_file(path), content(1)) == []
        except CheckpointError:
            detected += 1
    assert detected > 200


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_detected(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(1), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="corrupt, cut short"):
        load_file(path)


def killed_at(folder: Path, call: int) -> int:
    """Write steps 1 and 2, then step 3 in a process that is killed at system call number ``call``; return its exit code."""
    io, path = AtomicCheckpointIO(), folder / "last.ckpt"
    for step in (1, 2):
        io.save_checkpoint(content(step), path)

    def write() -> None:
        left = [call]

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return counting

        for name in ("fsync", "replace", "link", "open"):
            setattr(os, name, counted(getattr(os, name)))
        io.save_checkpoint(content(3), path)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_killed_between_any_two_system_calls(tmp_path: Path) -> None:
    """Both last.ckpt and previous.ckpt are always intact."""
    for call in range(1, 12):
        folder = tmp_path / str(call)
        folder.mkdir()
        code = killed_at(folder, call)
        steps = {path.name: load_file(path)["global_step"] for path in folder.glob("*.ckpt")}
        assert steps in ({"last.ckpt": 2, "previous.ckpt": 1}, {"last.ckpt": 2, "previous.ckpt": 2}, {"last.ckpt": 3, "previous.ckpt": 2})
        if code == 0:
            assert call > 5, "the process was killed at every call"
            return
        assert code == -signal.SIGKILL
    pytest.fail("the process was killed at every call, so the write did not end")
