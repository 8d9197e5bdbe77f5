"""The list of people whom annotators could not outline."""

from __future__ import annotations

from pathlib import Path

from cis_seg.annotation.job import Job
from cis_seg.errors import DataError


def read_dropped(path: Path | None, job: Job) -> dict[int, str]:
    """Annotation id of the job -> why that person was dropped; nobody without a file.

    A line is an id and a reason (``17 a statue``); empty lines and those that begin with # say nothing.

    Raises:
        DataError: no such file, or a line that names nobody of the job, or somebody twice, or gives no reason.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the list of dropped people cannot be read", where=path, found=error, expected="a text file") from error
    known, dropped = job.person_ids(), dict[int, str]()
    for number, line in enumerate(lines, start=1):
        first, _, reason = line.strip().partition(" ")
        if not first or first.startswith("#"):
            continue
        person = int(first) if first.isascii() and first.isdigit() and len(first) < 19 else None
        if person not in known or person in dropped or not reason.strip():
            raise DataError(
                "a line of the list of dropped people makes no sense",
                where=f"{path}, line {number}",
                expected=f"the annotation id of a person in {job.path.name}, each once, and a reason",
                found=line[:80],
                remedy="correct it, or delete it",
            )
        dropped[person] = reason.strip()
    return dropped
