"""A run's folder between two starts: the newest intact checkpoint, the logs up to it, no partial files."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from cis_seg.checkpoints import LAST, PREVIOUS, load_file
from cis_seg.errors import CheckpointError, ConfigError
from cis_seg.runtime.atomic_files import PARTIAL, locked, write_atomically
from cis_seg.training.csv_log import last_step, rewind

_STAGE = re.compile(r"_(pretrain|mask|finetune|finetune_overlap|finetune_teacher|ov[\d.]+)$")


def family(name: str) -> str:
    """Return the common name of runs that differ only in their stage or in OverlapLoss: ``crowd_tiny`` of ``crowd_tiny_pretrain``."""
    return _STAGE.sub("", name)


log = logging.getLogger(__name__)

#: names in a run's folder
CHECKPOINTS, CSV, WANDB_ID, LOCK = "checkpoints", Path("csv/version_0/metrics.csv"), "wandb_id", ".lock"
#: suffix of a corrupt checkpoint, so that the next write does not keep it as the previous one
CORRUPT = ".damaged"


def checkpoints_of(run: Path) -> list[Path]:
    """Return those of ``last.ckpt`` and ``previous.ckpt`` that exist, the newest first."""
    return [path for name in (LAST, PREVIOUS) if (path := run / CHECKPOINTS / name).is_file()]


def newest_good(run: Path, *, first: bool) -> Path | None:
    """Return the newest intact checkpoint of ``run``, or None if it has none at all.

    A corrupt ``last.ckpt`` is reported and renamed, so that it does not become the previous one.

    Args:
        run: the run's folder.
        first: whether this process is rank 0, the only one that changes files.

    Raises:
        CheckpointError: there are checkpoints, and all are corrupt.
    """
    problems: list[CheckpointError] = []
    for path in checkpoints_of(run):
        try:
            step: int = load_file(path)["global_step"]
        except CheckpointError as error:
            problems.append(error)
            continue
        if problems:
            _report_fallback(run, path, step, problems[0])
            if first:
                corrupt = path.with_name(LAST)
                corrupt.replace(corrupt.with_name(LAST + CORRUPT))
        return path
    if problems:
        raise CheckpointError(
            "no checkpoint of this run can be read",
            where=run / CHECKPOINTS,
            found="".join(f"\n    {error.problem}: {error.found}" for error in problems),
            remedy=f"continue from {run / CHECKPOINTS / 'best.ckpt'} if it is intact (resume=FILE), or delete the folder to start again",
        )
    return None


def _report_fallback(run: Path, path: Path, step: int, problem: CheckpointError) -> None:
    reached = last_step(run / CSV) or step
    lost = f"steps {step + 1} to {reached} are trained again" if reached > step else "the steps after it are trained again"
    log.warning(
        "WARNING: %s\n  found: %s\n  continuing from the previous one: %s, step %d; %s (the corrupt file is kept as %s)",
        *(problem.problem, problem.found, path, step, lost, LAST + CORRUPT),
    )


def check_writable(run: Path) -> None:
    """Check that the run's folder can be written, or created.

    Raises:
        ConfigError: it cannot be written.
    """
    for wanted in (run, run / CHECKPOINTS):
        folder = next(path for path in (wanted, *wanted.absolute().parents) if path.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"the run cannot be written to {run}",
                where="paths.runs",
                expected="a writable folder",
                found=f"{folder} is {'read-only or belongs to another user' if folder.is_dir() else 'not a folder'}",
                remedy="choose another folder (paths.runs=FOLDER), or change its owner, its permissions or how it is mounted",
            )


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Lock the run's folder inside the block, because two processes that train the same run would overwrite each other's files.

    The system releases the lock however this process ends; forked processes do not hold it.

    Raises:
        ConfigError: another process holds the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run / LOCK, wait=False))
        except Timeout as error:
            raise ConfigError(
                f"another process is training the run {run}",
                remedy="wait for it or end it, then continue with resume=true; or give this run another name=... or seed=...",
            ) from error
        except OSError as error:
            log.warning("%s cannot be locked: %s; make sure that no second process trains this run", run, error)
        yield


def make_ready(run: Path, step: int, *, repeated: Sequence[str]) -> None:
    """Create the folder, remove partial files of a killed process, and cut the CSV log at ``step``, from where it is written again.

    Args:
        run: the run's folder.
        step: completed steps; 0 for a new run.
        repeated: see ``csv_log.rewind``.
    """
    (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    for folder in (run, run / CHECKPOINTS, (run / CSV).parent):
        for left in folder.glob(f"*{PARTIAL}"):
            left.unlink()
            log.info("removed %s, a partial file", left)
    rewind(run / CSV, step, repeated=repeated)


def wandb_id(run: Path) -> str:
    """Return W&B's id of this run, generated at its first start and kept in its folder."""
    path = run / WANDB_ID
    kept = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if not kept:
        kept = secrets.token_hex(4)  # as long as W&B's own
        write_atomically(path, f"{kept}\n".encode())
    return kept
