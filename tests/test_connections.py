"""A run that was not asked to send anything opens no connection, and needs none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runs import SMALL, metrics_of

#: imported by every Python process of the run before anything else: writes down whom it wants to reach
RECORDER = """
import os, sys

def record(event, arguments):
    if event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        return
    address = arguments[0] if event.startswith("socket.get") else arguments[-1]
    host = address[0] if isinstance(address, tuple) else address
    here = host in (None, "", "localhost", "127.0.0.1", "::1") or (isinstance(address, str) and not event.startswith("socket.get"))
    with open(os.environ["RECORDED"], "a") as file:
        file.write(f"{'here' if here else 'outside'} {event} {address!r}\\n")

sys.addaudithook(record)
"""


def works(*command: str) -> bool:
    """Whether this machine has the command and allows it."""
    return shutil.which(command[0]) is not None and subprocess.run([*command, "true"], capture_output=True).returncode == 0


#: a network of its own, without any device; and a record of what the programs that are not Python want to reach (W&B's is one)
ALONE = ["unshare", "--map-root-user", "--net"]
WATCHED = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect"]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the Python processes of a test write what they want to reach."""
    (tmp_path / "recorder").mkdir()
    (tmp_path / "recorder" / "sitecustomize.py").write_text(RECORDER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "recorder"), prepend=os.pathsep)
    monkeypatch.setenv("RECORDED", str(tmp_path / "recorded.txt"))
    for name in ("NO_ALBUMENTATIONS_UPDATE", "WANDB_MODE", "WANDB_API_KEY", "WANDB_ERROR_REPORTING"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "recorded.txt").touch()
    return tmp_path / "recorded.txt"


def test_recorder_detects_connections(recorded: Path) -> None:
    attempt = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9)); s.connect(('127.0.0.1', 9))"
    )
    subprocess.run([sys.executable, "-c", attempt], capture_output=True)
    text = recorded.read_text()
    assert "outside socket.connect ('192.0.2.1', 9)" in text
    assert "here socket.connect ('127.0.0.1', 9)" in text


@pytest.mark.slow
def test_a_default_run_opens_no_connection(tmp_path: Path, recorded: Path) -> None:
    """The crowd is drawn, W&B records offline, albumentations augments; where the machine allows it, without a network at all."""
    wrappers = [*(ALONE if works(*ALONE) else []), *([*WATCHED, "-o", f"{tmp_path}/calls"] if works(*WATCHED, "-o", "/dev/null") else [])]
    small = [option for option in SMALL if option != "logger=csv"]
    options = [
        *small,
        "debug=fast",
        "data.photometric=light",
        "data.workers=1",
        f"paths.runs={tmp_path}/runs",
        f"paths.data={tmp_path}/data",
    ]
    command = [*wrappers, sys.executable, "-m", "cis_seg.train", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "debug_fast" / "seed0"
    assert metrics_of(run)["step"] == 5
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert "socket.connect" in recorded.read_text(), "W&B's own process is reached through a socket of this machine: the record works"
    assert [line for line in recorded.read_text().splitlines() if line.startswith("outside")] == []
    if (tmp_path / "calls").is_file():
        calls = (tmp_path / "calls").read_text()
        assert "connect(" in calls
        internet = [line for line in calls.splitlines() if "sa_family=AF_INET" in line]
        assert [line for line in internet if '"127.0.0.1"' not in line and '"::1"' not in line] == []
