"""Signals are recorded until the step is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cis_seg.runtime import signals as stopping
from cis_seg.runtime.signals import SignalWatch, Stopped
from faulty import Slow, compared
from runs import SMALL, places, small_run


@pytest.fixture
def watch() -> Iterator[SignalWatch]:
    """A watch that is installed for the duration of a test."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    watch = SignalWatch()
    watch.install()
    yield watch
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_recorded(watch: SignalWatch, signum: int, capfd: pytest.CaptureFixture[str]) -> None:
    os.kill(os.getpid(), signum)
    assert watch.received == signum
    assert f"{signal.Signals(signum).name}: finishing and saving the current step" in capfd.readouterr().err


def test_a_second_ctrl_c_ends_the_run_immediately(watch: SignalWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # the same Ctrl-C, forwarded by a launcher
    monkeypatch.setattr(stopping, "REPEAT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_slurms_signal_is_recorded_and_its_handler_kept() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda signum, _: called.append(signum))
    terminate, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        watch = SignalWatch()
        watch.install()
        watch.install()  # again, for the validation after the last step
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (watch.received, watch.requeue_wanted, called) == (signal.SIGTERM, True, []), "neither hides the other"
        assert watch.requeue is not None
        watch.requeue(signal.SIGUSR1, None)
        assert called == [signal.SIGUSR1]
    finally:
        for signum, handler in {signal.SIGUSR1: before, signal.SIGTERM: terminate, signal.SIGINT: interrupt}.items():
            signal.signal(signum, handler)


def test_without_slurm_its_signal_is_not_handled(watch: SignalWatch) -> None:
    assert watch.requeue is None
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_exit_code(signum: int, code: int) -> None:
    with pytest.raises(SystemExit, match=r"stopped by SIG(TERM|INT) after step 3") as stopped:
        raise Stopped(signum, "after step 3")
    assert stopped.value.code == code


STEPS = ("schedule.max_steps=4", "schedule.val_every=4", "schedule.save_every=4", "data.workers=1")


@pytest.mark.slow
def test_signal_to_all_processes_ends_the_sweep(tmp_path: Path) -> None:
    """The signal also reaches the DataLoader workers, as from a scheduler; the resumed job is bit-identical."""
    overrides = [option for option in SMALL if not option.startswith("hydra.")]
    paths = [*places(tmp_path), f"hydra.sweep.dir={tmp_path}/sweep"]
    slow = [f"+callbacks.slow._target_={Slow.__module__}.Slow", "+callbacks.slow.step=2", "+callbacks.slow.seconds=3"]
    command = [sys.executable, "-m", "cis_seg.train", *overrides, *STEPS, *paths, *slow, "name=stopped", "hydra.mode=MULTIRUN", "seed=0,1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    run, deadline = tmp_path / "runs" / "stopped" / "seed0", time.monotonic() + 300
    while not (run / "csv" / "version_0" / "metrics.csv").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert f"in {run}/checkpoints/last.ckpt\n  continue with: python -m cis_seg.train" in said
    assert said.count("resume=true") == 1
    assert not (tmp_path / "runs" / "stopped" / "seed1").exists()
    small_run(tmp_path, "name=stopped", *STEPS, "resume=true")
    assert compared(run, small_run(tmp_path, "name=whole", *STEPS)) == []
