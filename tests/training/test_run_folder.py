"""A run's folder between two starts."""

from __future__ import annotations

import errno
import logging
import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from cis_seg.errors import CheckpointError, ConfigError, RunError
from cis_seg.training.run_folder import CSV, check_writable, held, make_ready, newest_good, wandb_id


def checkpoint(run: Path, name: str, step: int, *, damaged: bool = False) -> Path:
    path = run / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step, "w": torch.zeros(1000)}, path)
    if damaged:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    return path


def hold(run: Path, ready: Connection) -> None:
    with held(run):
        ready.send("held")
        time.sleep(600)


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    run, context = tmp_path / "run", get_context("fork")  # a new interpreter would import torch
    ready, theirs = context.Pipe(duplex=False)
    other = context.Process(target=hold, args=(run, theirs), daemon=True)
    other.start()
    assert ready.recv() == "held"
    with pytest.raises(ConfigError, match="another process is training the run"), held(run):
        pass
    other.kill()
    other.join()
    with held(run), held(run):  # a killed one does not stand in the way, and a process not in its own
        pass
    assert list(run.iterdir()) == []


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    assert newest_good(tmp_path, first=True) is None
    previous = checkpoint(tmp_path, "previous.ckpt", 2)
    assert newest_good(tmp_path, first=True) == previous
    last = checkpoint(tmp_path, "last.ckpt", 4)
    assert newest_good(tmp_path, first=True) == last


@pytest.mark.parametrize("cut", [False, True])
def test_corrupt_checkpoint_falls_back_to_the_previous_one(tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: bool) -> None:
    previous, last = checkpoint(tmp_path, "previous.ckpt", 200), checkpoint(tmp_path, "last.ckpt", 400, damaged=True)
    if cut:
        last.write_bytes(last.read_bytes()[:2000])
    (tmp_path / CSV).parent.mkdir(parents=True)
    (tmp_path / CSV).write_text("a,step\n1,199\n2,431\n")
    with caplog.at_level(logging.WARNING):
        assert newest_good(tmp_path, first=True) == previous
    assert f"{last} cannot be read" in caplog.text
    assert f"continuing from the previous one: {previous}, step 200; steps 201 to 432 are trained again" in caplog.text
    assert not last.exists(), "the next write would make it the one before"
    assert last.with_name("last.ckpt.damaged").is_file()


def test_only_the_first_process_touches_files(tmp_path: Path) -> None:
    checkpoint(tmp_path, "previous.ckpt", 200)
    last = checkpoint(tmp_path, "last.ckpt", 400, damaged=True)
    newest_good(tmp_path, first=False)
    assert last.is_file()


def test_all_corrupt_checkpoints_are_reported(tmp_path: Path) -> None:
    for name in ("last.ckpt", "previous.ckpt"):
        checkpoint(tmp_path, name, 2, damaged=True)
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of this run can be read[\s\S]*last\.ckpt[\s\S]*previous\.ckpt[\s\S]*best\.ckpt"
    ):
        newest_good(tmp_path, first=True)


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    kept = [checkpoint(tmp_path, "last.ckpt", 2), tmp_path / "config.yaml", tmp_path / "metrics.json"]
    left = [tmp_path / "checkpoints" / "last.ckpt.partial", tmp_path / "metrics.json.partial"]
    for path in [*kept[1:], *left]:
        path.write_text("x")
    make_ready(tmp_path, 0, repeated=[])
    assert all(path.is_file() for path in kept)
    assert not any(path.exists() for path in left)


def test_a_new_runs_folder_is_made(tmp_path: Path) -> None:
    make_ready(tmp_path / "runs" / "name" / "seed0", 0, repeated=[])
    assert (tmp_path / "runs" / "name" / "seed0" / "checkpoints").is_dir()


def test_a_folder_that_can_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "runs" / "name" / "seed0")
    assert list(tmp_path.iterdir()) == [], "nothing is made yet"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match="the run cannot be written to"):
        check_writable(tmp_path / "runs" / "name" / "seed0")


@pytest.mark.parametrize("inner", ["", "name/seed0/checkpoints"])
def test_a_read_only_folder(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        folder.chmod(0o500)
    elif os.system(f"mount -t tmpfs -o ro none {folder} 2>/dev/null"):
        pytest.skip("root may write everywhere, and may not mount here")
    try:
        with pytest.raises(ConfigError, match=rf"cannot be written[\s\S]*found: {folder} is read-only[\s\S]*paths\.runs=FOLDER"):
            check_writable(tmp_path / "name" / "seed0")
    finally:
        folder.chmod(0o700) if os.geteuid() else os.system(f"umount {folder}")


def test_wandb_id_is_kept(tmp_path: Path) -> None:
    drawn = wandb_id(tmp_path)
    assert len(drawn) == 8
    assert wandb_id(tmp_path) == drawn


def test_an_io_error_is_not_a_corrupt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = checkpoint(tmp_path, "last.ckpt", 4)
    checkpoint(tmp_path, "previous.ckpt", 2)

    def sick(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(torch, "load", sick)
    with pytest.raises(RunError, match="cannot be read at the moment"):
        newest_good(tmp_path, first=True)
    assert last.is_file(), "not put aside"
