"""The package without the modules, signals and calls that Windows lacks, simulated on POSIX."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cis_seg.data.workers import ignore_terminal_signals
from cis_seg.errors import ConfigError
from cis_seg.runtime.signals import SignalWatch
from cis_seg.training.launch import processes_to_start

#: other libraries are imported first: they choose their implementation by sys.platform
WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
import albumentations, filelock, lightning.pytorch, matplotlib, torch.distributed.launcher.api, torchvision, wandb
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "sigwaitinfo"):
    delattr(signal, name)
for name in ("killpg", "getpgrp", "fork", "sched_getaffinity"):
    delattr(os, name)
import cis_seg
for info in pkgutil.walk_packages(cis_seg.__path__, "cis_seg."):
    if not info.name.startswith("cis_seg.conf."):
        importlib.import_module(info.name)
"""


@pytest.mark.slow
def test_everything_imports(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_signals_that_windows_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for name in ("SIGUSR1", "sigwaitinfo"):
        monkeypatch.delattr(signal, name)
    try:
        SignalWatch().install()
        ignore_terminal_signals()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.killpg")
    with pytest.raises(ConfigError, match=r"Windows[\s\S]*trainer\.devices=1"):
        processes_to_start({"accelerator": "cpu", "devices": 2, "num_nodes": 1, "strategy": "auto"})
