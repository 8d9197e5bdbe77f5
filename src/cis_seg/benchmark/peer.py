"""Our side of a row in turns with a user's own command, such as a training step of another implementation.

The other implementation stays in its own environment. Its command measures one step, with whatever warm-up that needs, and prints the
seconds as its last line. The two sides alternate, so that changes in the speed of the machine affect both.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cis_seg.benchmark.measure import MAX_REPEATS, MIN_REPEATS, Child
from cis_seg.errors import UserError

TURNS = 5
SHOWN = 200  # characters of the output in a message


@dataclass
class Compared:
    """Milliseconds of both sides, turn by turn."""

    name: str  # of our row
    command: str
    ours_ms: list[float] = field(default_factory=list)
    peer_ms: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        """Milliseconds of our side and of the command."""
        return statistics.median(self.ours_ms), statistics.median(self.peer_ms)

    @property
    def ratio(self) -> float:
        """Median of the command divided by ours: above 1, ours is faster."""
        ours, peer = self.medians
        return peer / ours


def seconds_of(command: str) -> float:
    """Run ``command``, without a shell, and return the seconds in the last line that it prints; its messages stay on standard error.

    Raises:
        UserError: the program was not found, the command failed, or its last line is not a positive number.
    """
    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace")
    except (OSError, ValueError, IndexError) as error:
        remedy = "write a program and its arguments; a pipe or a variable needs a shell: --peer \"sh -c '...'\""
        raise UserError("the peer's command cannot be started", where=command, found=error, remedy=remedy) from error
    printed = done.stdout.strip()
    if done.returncode:
        found = f"exit code {done.returncode}" + (f", after printing {printed[-SHOWN:]!r}" if printed else "")
        raise UserError("the peer's command failed", where=command, found=found, remedy="see its messages above; run it alone first")
    last = printed.rpartition("\n")[2].strip()
    try:
        seconds = float(last)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(
            "the peer's command does not print its time",
            where=command,
            expected="the seconds of one step as the last line, a positive number such as 5.31",
            found=repr(last[-SHOWN:]) if last else "no output",
            remedy="print(seconds) at the end of its script; other lines may come before it",
        )
    return seconds


def compare(name: str, command: str, *, device: str, quick: bool, turns: int = TURNS) -> Iterator[Compared]:
    """Run our side of row ``name`` and ``command`` in turns; yields the times so far after each turn.

    Raises:
        UserError: either side failed, or the number of turns is too small for a median.
    """
    if not MIN_REPEATS <= turns <= MAX_REPEATS:
        raise UserError("too few or too many turns", where="--turns", expected=f"{MIN_REPEATS} to {MAX_REPEATS}", found=turns)
    found = Compared(name, command)
    seconds_of(command)  # an error shows before our side is prepared; caches are as warm as ours
    with tempfile.TemporaryDirectory() as folder, Child(name, "ours", device=device, quick=quick, output=Path(folder) / "values") as ours:
        ours.answer()
        for _ in range(turns):
            found.ours_ms.append(ours.repeat()["ms"])
            found.peer_ms.append(1000 * seconds_of(command))
            yield found


def write_compared(path: Path, found: Compared) -> None:
    """Write one object: ``name``, ``command``, both sides' milliseconds by turn, their medians and the ratio."""
    ours, peer = found.medians
    content = asdict(found) | {"ours_median_ms": ours, "peer_median_ms": peer, "ratio": found.ratio}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
