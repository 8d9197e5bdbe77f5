"""Kills, full disks and damaged files: the checkpoints' side of a run's survival."""

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

from fault_cases.frame import Fault, Outcome, Place, kill_group, steps_logged, wait_for

#: of the SIGKILL's: at any moment, and inside the write of a checkpoint
ANYWHERE, WRITING = 12, 8
NO_MOUNT = Outcome("skipped: making a small file system needs the right to mount one", nothing_lost=True)
KILLED_WHILE_WRITING = ("-m", "fault_cases.killed_while_writing")


def killed_anywhere(place: Place) -> Outcome:
    """At random moments between the first step and the last validation."""
    draw, found, moments = random.Random(0), [], []
    for number in range(ANYWHERE):
        name = f"killed{number}"
        process, run = place.start(place.command(f"name={name}")), place.run_of(name)
        step = draw.randrange(1, 13)
        if wait_for(partial(_reached, run, step), process):
            time.sleep(draw.random() * 0.3)
        moments.append(steps_logged(run) if process.poll() is None else "end")
        kill_group(process)
        process.wait()
        found += place.resumed(name)
    return _of_many(f"killed after steps {', '.join(map(str, moments))}", ANYWHERE, found)


def _reached(run: Path, step: int) -> bool:
    return steps_logged(run) >= step


def killed_writing(place: Place) -> Outcome:
    """Half-way through the file, and between any two of the system calls that follow."""
    draw, found, moments = random.Random(1), [], []
    for number in range(WRITING):
        write, call, name = draw.randrange(1, 7), number % 6, f"killed{number}"
        found += _killed_in_a_write(place, name, write, call)
        moments.append(f"{write}.{call}")
    return _of_many(f"killed in write.call {', '.join(moments)}", WRITING, found)


def killed_in_one_write(place: Place) -> Outcome:
    """After the rename: the checkpoint counts, so everything logged up to it must be on the disk."""
    return _of_many("killed in write.call 3.5", 1, _killed_in_a_write(place, "killed", 3, 5))


def _killed_in_a_write(place: Place, name: str, write: int, call: int) -> list[str]:
    code = place.finish(place.command(f"name={name}", program=(*KILLED_WHILE_WRITING, str(write), str(call))))
    found = [] if code == -signal.SIGKILL else [f"{name} was not killed: exit code {code}"]
    return found + place.resumed(name)


def damaged_last(place: Place) -> Outcome:
    """A flipped bit in the middle of last.ckpt of a run that was stopped."""
    last = _stopped(place)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    return _fallen_back(place)


def shortened_last(place: Place) -> Outcome:
    """Only the first half of last.ckpt is there."""
    last = _stopped(place)
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    return _fallen_back(place)


def all_damaged(place: Place) -> Outcome:
    """Nothing to continue from: that must be said, and nothing be begun anew over it."""
    last = _stopped(place)
    for path in (last, last.with_name("previous.ckpt")):
        path.write_bytes(b"no checkpoint")
    code = place.finish(place.command("name=stopped", "resume=true"))
    told = "no checkpoint of this run can be read" in place.said() and "Traceback" not in place.said()
    return Outcome(f"refused with exit code {code}", nothing_lost=code == 2 and told)


def _stopped(place: Place) -> Path:
    process = place.start(place.command("name=stopped"))
    wait_for(lambda: steps_logged(place.run_of("stopped")) >= 7, process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return place.run_of("stopped") / "checkpoints" / "last.ckpt"


def _fallen_back(place: Place) -> Outcome:
    found = place.resumed("stopped")
    told = "continuing from the previous one" in place.said() and "are trained again" in place.said()
    return _of_many("went on from previous.ckpt, and said so" if told else "nothing said", 1, [*found, *([] if told else ["silent"])])


def full_disk(place: Place) -> Outcome:
    """Fills the disk when the first checkpoint is there, and makes room again when the run has said that it waits."""
    disk = place.folder / "disk"
    with _mounted(disk, "size=40m") as allowed:
        if not allowed:
            return NO_MOUNT
        process = _paused(place, disk)
        half = sorted(path.name for path in disk.rglob("*.partial"))
        (disk / "ballast").unlink(missing_ok=True)
        code = process.wait()
        found = [] if code else place.resumed("full", runs=disk)  # finished: reported, and compared
        told = "paused: no room to write" in place.said()
    found += [f"exit code {code}"] if code else []
    found += [] if told and not half else [f"said so: {told}; half-written files: {half}"]
    return _of_many("waited, and went on when there was room", 1, found)


def full_disk_and_ctrl_c(place: Place) -> Outcome:
    """A person gives up while the run waits; continued with room, it ends the same."""
    disk = place.folder / "disk"
    with _mounted(disk, "size=40m") as allowed:
        if not allowed:
            return NO_MOUNT
        process = _paused(place, disk)
        kill_group(process, signal.SIGINT)
        code = process.wait()
        (disk / "ballast").unlink(missing_ok=True)
        found = place.resumed("full", runs=disk)
    found += [] if code == 130 and "Traceback" not in place.said() else [f"exit code {code}"]
    return _of_many(f"ended with {code}, continued with room", 1, found)


def _paused(place: Place, disk: Path) -> subprocess.Popen[str]:
    process = place.start(place.command("name=full", runs=disk))
    wait_for(lambda: steps_logged(place.run_of("full", disk)) >= 3, process)
    with suppress(OSError):  # the run took the room first
        (disk / "ballast").write_bytes(bytes(max(_free(disk) - 1_000_000, 0)))
    wait_for(lambda: "paused" in place.said(), process)
    return process


def _free(disk: Path) -> int:
    numbers = os.statvfs(disk)
    return numbers.f_bavail * numbers.f_frsize


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """A file system in memory at ``folder``, or False where that is not allowed."""
    folder.mkdir()
    allowed = not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]).returncode
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(folder)], check=True)


def read_only(place: Place) -> Outcome:
    """Refused before any work, in one message."""
    with _mounted(place.folder / "runs", "ro") as allowed:
        if not allowed:
            return NO_MOUNT
        code = place.finish(place.command("name=refused"))
    told = "the run cannot be written to" in place.said() and "Traceback" not in place.said()
    return Outcome(f"refused with exit code {code}" + ("" if told else ", without saying why"), nothing_lost=code == 2 and told)


def _of_many(happened: str, number: int, found: list[str]) -> Outcome:
    ended = "bit-equal to the run that nothing happened to" if not found else "; ".join(found[:3])
    return Outcome(f"{happened}; {number if number > 1 else 'it'} ended {ended}", nothing_lost=not found)


FAULTS = [
    Fault("SIGKILL at 12 random moments", "each continues to the same bits", killed_anywhere),
    Fault("SIGKILL inside the write of a checkpoint, 8 times", "each continues to the same bits", killed_writing),
    Fault("SIGKILL right after the rename of a checkpoint", "continues to the same bits", killed_in_one_write, short=True),
    Fault("last.ckpt damaged", "goes on from the one before, loudly, to the same bits", damaged_last),
    Fault("last.ckpt cut short", "goes on from the one before, loudly, to the same bits", shortened_last),
    Fault("all checkpoints damaged", "refused with 2 and a message", all_damaged),
    Fault("disk full", "waits, says so, goes on, leaves nothing half-written", full_disk),
    Fault("disk full, then Ctrl-C", "ends with 130; continues to the same bits", full_disk_and_ctrl_c),
    Fault("read-only run folder", "refused with 2 and a message", read_only, short=True),
]
