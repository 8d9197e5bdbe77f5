"""A run's folder between two starts: its newest sound checkpoint, its logs up to there, no half-written files."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cis_seg.checkpoints.reading import LAST, PREVIOUS, load_file
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.runtime.atomic_files import PARTIAL, write_atomically
from cis_seg.training.csv_log import last_step, rewind

_STAGE = re.compile(r"_(pretrain|finetune|finetune_overlap|ov[\d.]+)$")


def family(name: str) -> str:
    """What runs share that differ in their stage or in OverlapLoss alone: ``crowd_tiny`` of ``crowd_tiny_pretrain``."""
    return _STAGE.sub("", name)


log = logging.getLogger(__name__)

#: in a run's folder
CHECKPOINTS, CSV, WANDB_ID, LOCK = "checkpoints", Path("csv/version_0/metrics.csv"), "wandb_id", ".lock"
#: what the name of a damaged checkpoint gets, so that the next write does not keep it as the one before
DAMAGED = ".damaged"


def checkpoints_of(run: Path) -> list[Path]:
    """``last.ckpt`` and ``previous.ckpt`` as far as they are there, the newest first."""
    return [path for name in (LAST, PREVIOUS) if (path := run / CHECKPOINTS / name).is_file()]


def newest_good(run: Path, *, first: bool) -> Path | None:
    """The newest checkpoint of ``run`` that is sound; None where it has none at all.

    A damaged one is said aloud, and put aside so that it does not become the one before.

    Args:
        run: its folder.
        first: of all processes; it alone touches files.

    Raises:
        CheckpointError: there are some, and all of them are damaged.
    """
    problems: list[CheckpointError] = []
    for path in checkpoints_of(run):
        try:
            step: int = load_file(path)["global_step"]
        except CheckpointError as error:
            problems.append(error)
            continue
        if problems:
            _tell_fallback(run, path, step, problems[0])
            if first:
                damaged = path.with_name(LAST)
                damaged.replace(damaged.with_name(LAST + DAMAGED))
        return path
    if problems:
        raise CheckpointError(
            "no checkpoint of this run can be read",
            where=run / CHECKPOINTS,
            found="".join(f"\n    {error.problem}: {error.found}" for error in problems),
            remedy=f"go on from {run / CHECKPOINTS / 'best.ckpt'}, if that is sound (resume=FILE), or delete the folder to start anew",
        )
    return None


def _tell_fallback(run: Path, path: Path, step: int, problem: CheckpointError) -> None:
    reached = last_step(run / CSV) or step
    lost = f"steps {step + 1} to {reached} are trained again" if reached > step else "the steps after it are trained again"
    log.warning(
        "WARNING: %s\n  found: %s\n  continuing from the one before: %s, step %d; %s (the damaged file is kept as %s)",
        *(problem.problem, problem.found, path, step, lost, LAST + DAMAGED),
    )


def check_writable(run: Path) -> None:
    """Finds out before any work that a run's folder, or the one it is to be made in, cannot be written.

    Raises:
        ConfigError: it cannot.
    """
    for wanted in (run, run / CHECKPOINTS):
        folder = next(path for path in (wanted, *wanted.absolute().parents) if path.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"the run cannot be written to {run}",
                where="paths.runs",
                expected="a folder in which files can be made",
                found=f"{folder} is {'read-only or belongs to somebody else' if folder.is_dir() else 'no folder'}",
                remedy="name another one (paths.runs=FOLDER), or change its owner, its permissions or how it is mounted",
            )


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keeps other processes from training the same run meanwhile: two of them would write over each other's files.

    The system gives the folder free however this process ends; processes that it forks do not hold it.

    Raises:
        ConfigError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning("%s cannot be locked: %s; see to it that no second process trains this run", run, error)
            else:
                raise ConfigError(
                    f"another process is training the run {run}",
                    remedy="wait for it or end it, then continue with resume=true; or give this run another name=... or seed=...",
                ) from error
        try:
            yield
        finally:
            (run / LOCK).unlink(missing_ok=True)


def make_ready(run: Path, step: int, *, repeated: Sequence[str]) -> None:
    """Makes the folder, removes what a killed write left behind, and cuts the CSV log at ``step``, from where it is written again.

    Args:
        run: its folder.
        step: finished steps; 0 for a new run.
        repeated: see ``csv_log.rewind``.
    """
    (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    for folder in (run, run / CHECKPOINTS, (run / CSV).parent):
        for left in folder.glob(f"*{PARTIAL}"):
            left.unlink()
            log.info("removed %s, which a write left half done", left)
    rewind(run / CSV, step, repeated=repeated)


def wandb_id(run: Path) -> str:
    """W&B's id of this run, drawn at its first start and kept in its folder."""
    path = run / WANDB_ID
    kept = path.read_text().strip() if path.is_file() else ""
    if not kept:
        kept = secrets.token_hex(4)  # as long as W&B's own
        write_atomically(path, f"{kept}\n".encode())
    return kept
