"""Faults of checkpoints: kills, corrupt files and full disks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fault_cases.frame import IDENTICAL, Fault, Outcome, Sandbox, kill_group, steps_logged, wait_for

#: number of kills at any moment, and inside the write of a checkpoint
ANYWHERE, WRITING = 12, 8
NO_MOUNT = Outcome("skipped: mounting a small file system is not permitted", nothing_lost=True)
#: a teacher whose average is the result, with everything that makes its masks
TEACHER = ("loss.weights.teacher=1", "ema=0.9", "teacher.momentum=0.9", "teacher.ramp_steps=6", "teacher.refine=2", "teacher.colors=3")
KILLED_WHILE_WRITING = ("-m", "fault_cases.killed_while_writing")


def killed_anywhere(sandbox: Sandbox) -> Outcome:
    """SIGKILL at random moments between the first step and the last validation."""
    return _killed(sandbox, random.Random(0), ANYWHERE)


def killed_with_a_teacher(sandbox: Sandbox) -> Outcome:
    """SIGKILL at a random moment of a run that learns from a teacher: the average must continue where it was."""
    return _killed(sandbox, random.Random(3), 1, *TEACHER)


def _killed(sandbox: Sandbox, draw: random.Random, times: int, *overrides: str) -> Outcome:
    found, moments = [], []
    for number in range(times):
        name = f"killed{number}"
        process, run = sandbox.start(sandbox.command(f"name={name}", *overrides)), sandbox.run_of(name)
        step = draw.randrange(1, 13)
        if wait_for(partial(_reached, run, step), process):
            time.sleep(draw.random() * 0.3)
        moments.append(steps_logged(run) if process.poll() is None else "end")
        kill_group(process)
        process.wait()
        found += sandbox.resumed(name, *overrides)
    return _of_many(f"killed after step{'s' if times > 1 else ''} {', '.join(map(str, moments))}", times, found)


def _reached(run: Path, step: int) -> bool:
    return steps_logged(run) >= step


def killed_writing(sandbox: Sandbox) -> Outcome:
    """SIGKILL half-way through the file, and between any two of the system calls that follow."""
    draw, found, moments = random.Random(1), [], []
    for number in range(WRITING):
        write, call, name = draw.randrange(1, 7), number % 6, f"killed{number}"
        found += _killed_in_a_write(sandbox, name, write, call)
        moments.append(f"{write}.{call}")
    return _of_many(f"killed in write.call {', '.join(moments)}", WRITING, found)


def killed_in_one_write(sandbox: Sandbox) -> Outcome:
    """SIGKILL after the rename: the checkpoint is valid, so everything logged up to it must be on the disk."""
    return _of_many("killed in write.call 3.5", 1, _killed_in_a_write(sandbox, "killed", 3, 5))


def _killed_in_a_write(sandbox: Sandbox, name: str, write: int, call: int) -> list[str]:
    code = sandbox.finish(sandbox.command(f"name={name}", program=(*KILLED_WHILE_WRITING, str(write), str(call))))
    found = [] if code == -signal.SIGKILL else [f"{name} was not killed: exit code {code}"]
    return found + sandbox.resumed(name)


def corrupt_last(sandbox: Sandbox) -> Outcome:
    """Flip a bit in the middle of a stopped run's last.ckpt."""
    last = _stopped(sandbox)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    return _resumed_from_previous(sandbox)


def truncated_last(sandbox: Sandbox) -> Outcome:
    """Remove the second half of a stopped run's last.ckpt."""
    last = _stopped(sandbox)
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    return _resumed_from_previous(sandbox)


def all_corrupt(sandbox: Sandbox) -> Outcome:
    """Corrupt all checkpoints: the run must stop with a message and must not start again from the beginning."""
    last = _stopped(sandbox)
    for path in (last, last.with_name("previous.ckpt")):
        path.write_bytes(b"no checkpoint")
    code = sandbox.finish(sandbox.command("name=stopped", "resume=true"))
    reported = "no checkpoint of this run can be read" in sandbox.output() and "Traceback" not in sandbox.output()
    return Outcome(f"rejected with exit code {code}", nothing_lost=code == 2 and reported)


def _stopped(sandbox: Sandbox) -> Path:
    process = sandbox.start(sandbox.command("name=stopped"))
    wait_for(lambda: steps_logged(sandbox.run_of("stopped")) >= 7, process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return sandbox.run_of("stopped") / "checkpoints" / "last.ckpt"


def _resumed_from_previous(sandbox: Sandbox) -> Outcome:
    found = sandbox.resumed("stopped")
    reported = "continuing from the previous one" in sandbox.output() and "are trained again" in sandbox.output()
    found += [] if reported else ["no message"]
    return _of_many("resumed from previous.ckpt, with a message" if reported else "resumed without a message", 1, found)


def full_disk(sandbox: Sandbox) -> Outcome:
    """Fill the disk after the first checkpoint, and free space once the run reports that it is paused."""
    disk = sandbox.folder / "disk"
    with _mounted(disk, "size=40m") as allowed:
        if not allowed:
            return NO_MOUNT
        process = _paused(sandbox, disk)
        half = sorted(path.name for path in disk.rglob("*.partial"))
        (disk / "ballast").unlink(missing_ok=True)
        code = process.wait()
        found = [] if code else sandbox.resumed("full", runs=disk)
        reported = "paused: not enough disk space to write" in sandbox.output()
    found += [f"exit code {code}"] if code else []
    found += [] if reported and not half else [f"message: {reported}; partial files: {half}"]
    return _of_many("paused, and continued when space was available", 1, found)


def full_disk_and_ctrl_c(sandbox: Sandbox) -> Outcome:
    """Press Ctrl-C while the run is paused, and resume it with space available."""
    disk = sandbox.folder / "disk"
    with _mounted(disk, "size=40m") as allowed:
        if not allowed:
            return NO_MOUNT
        process = _paused(sandbox, disk)
        kill_group(process, signal.SIGINT)
        code = process.wait()
        (disk / "ballast").unlink(missing_ok=True)
        found = sandbox.resumed("full", runs=disk)
    found += [] if code == 130 and "Traceback" not in sandbox.output() else [f"exit code {code}"]
    return _of_many(f"exit code {code}; resumed with space available", 1, found)


def _paused(sandbox: Sandbox, disk: Path) -> subprocess.Popen[str]:
    process = sandbox.start(sandbox.command("name=full", runs=disk))
    wait_for(lambda: steps_logged(sandbox.run_of("full", disk)) >= 3, process)
    with suppress(OSError):  # the run has taken the space first
        (disk / "ballast").write_bytes(bytes(max(_free(disk) - 1_000_000, 0)))
    wait_for(lambda: "paused" in sandbox.output(), process)
    return process


def _free(disk: Path) -> int:
    numbers = os.statvfs(disk)
    return numbers.f_bavail * numbers.f_frsize


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """Mount a file system in memory at ``folder`` and yield True, or False if mounting is not permitted."""
    folder.mkdir()
    allowed = not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]).returncode
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(folder)], check=True)


def read_only(sandbox: Sandbox) -> Outcome:
    """A read-only folder must be reported before any work, in one message."""
    with _mounted(sandbox.folder / "runs", "ro") as allowed:
        if not allowed:
            return NO_MOUNT
        code = sandbox.finish(sandbox.command("name=readonly"))
    reported = "the run cannot be written to" in sandbox.output() and "Traceback" not in sandbox.output()
    return Outcome(f"rejected with exit code {code}" + ("" if reported else ", without the reason"), nothing_lost=code == 2 and reported)


def _of_many(happened: str, number: int, found: list[str]) -> Outcome:
    ended = "bit-identical to the undisturbed run" if not found else "; ".join(found[:3])
    return Outcome(f"{happened}; {number if number > 1 else 'it'} ended {ended}", nothing_lost=not found)


FAULTS = [
    Fault("SIGKILL at 12 random moments", f"each {IDENTICAL}", killed_anywhere),
    Fault("SIGKILL at a random moment, with a teacher", IDENTICAL, killed_with_a_teacher, short=True),
    Fault("SIGKILL inside the write of a checkpoint, 8 times", f"each {IDENTICAL}", killed_writing),
    Fault("SIGKILL right after the rename of a checkpoint", IDENTICAL, killed_in_one_write, short=True),
    Fault("last.ckpt corrupted", f"resumes from the previous one with a message; {IDENTICAL}", corrupt_last),
    Fault("last.ckpt truncated", f"resumes from the previous one with a message; {IDENTICAL}", truncated_last),
    Fault("all checkpoints corrupted", "rejected with exit code 2 and a message", all_corrupt),
    Fault("disk full", "pauses with a message, continues, leaves no partial file", full_disk),
    Fault("disk full, then Ctrl-C", f"exit code 130; {IDENTICAL}", full_disk_and_ctrl_c),
    Fault("read-only run folder", "rejected with exit code 2 and a message", read_only, short=True),
]
