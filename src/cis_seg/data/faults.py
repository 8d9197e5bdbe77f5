"""Records and images of a data set that cannot be used: counted, listed, and fatal only if there are many."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cis_seg.errors import ConfigError, DataError

#: images tried for one position; if a tenth of them is unreadable, 16 unreadable ones in a row have a probability of 1e-16
ATTEMPTS = 16
_SHOWN = 3  # problems in a message; the log has a line for each


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read; only strings, because the error would keep the open file alive."""

    path: Path
    problem: str
    found: str
    message: str  # of the whole error

    @classmethod
    def from_error(cls, path: Path, error: DataError) -> Unreadable:
        """The strings of ``error``, raised for ``path``."""
        return cls(path, error.problem, str(error.found), str(error))


def substitute(num_images: int, seed: int, position: int, attempt: int) -> int:
    """The image at ``position`` of the training stream after ``attempt`` (1, 2, ..) others could not be read.

    It depends on nothing else, so a resumed run and any number of workers or devices draw the same image.
    """
    assert attempt > 0  # because trailing zeros do not change a seed: attempt 0 would repeat the transform's draws
    return int(np.random.default_rng([seed, position, attempt]).integers(num_images))


class UnreadableImages:
    """The distinct images that one process could not read since it started.

    Args:
        source: the annotation file, for messages.
        total: images of the data set.
        most: share of them, 0 to 1, that may be unreadable (``data.max_faulty``).
    """

    def __init__(self, source: Path, total: int, most: float) -> None:
        self.source, self.total, self.most = source, total, most
        self.found: dict[Path, Unreadable] = {}

    def add(self, unreadable: Sequence[Unreadable]) -> None:
        """Log those that are new.

        Raises:
            DataError: more than the share ``most`` of the images is unreadable.
        """
        for image in unreadable:
            if image.path not in self.found:
                self.found[image.path] = image
                count = f"{len(self.found)} of {self.total} so far"
                log.warning("an unreadable image was replaced by another (%s): %s", count, image.message)
        if len(self.found) > self.most * self.total:
            raise DataError(
                f"too many images cannot be read: {len(self.found)} of {self.total}",
                where=self.source,
                expected=f"at most {self.most:.4g} of the images (data.max_faulty)",
                found=_listed(list(self.found.values())),
                remedy="complete the download or copy the files again, then resume=true; data.max_faulty=1 trains on what can be read",
            )


def none_is_left(unreadable: Sequence[Unreadable]) -> DataError:
    """The error if all images tried for one position are unreadable."""
    return DataError(
        f"{len(unreadable)} randomly chosen images in a row could not be read",
        expected="images",
        found=_listed(unreadable),
        remedy="check the image folder: is the disk still mounted, are the files complete?",
    )


def not_scored(image: Unreadable) -> DataError:
    """The error if an image to score cannot be read: leaving it out would change the score."""
    return DataError(
        f"an image to score cannot be read, and leaving it out would change the score: {image.problem}",
        where=image.path,
        found=image.found,
        remedy="repair the file, or remove the image and its annotations from the scored set",
    )


def unscorable(errors: Sequence[DataError], total: int, source: Path) -> DataError:
    """The error if ``errors`` are found in the ``total`` images to score, before the first step."""
    more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return DataError(
        f"{len(errors)} of {total} images to score cannot be used, and leaving them out would change the score",
        where=source,
        expected="complete images of the stated size",
        found="\n    ".join([*(str(error).replace("\n", "\n    ") for error in errors[:_SHOWN]), *more]),
        remedy="repair these files, or remove the images and their annotations from the scored set",
    )


def nothing_annotated(problem: str, source: Path, names: Sequence[str], images: int, ignored: int, remedy: str) -> DataError:
    """The error if none of the ``images`` of ``source`` has an instance; tools that write ``iscrowd`` 1 for masks are a frequent cause."""
    crowds = f"; {ignored} annotations are ignore regions (iscrowd 1)" if ignored else ""
    return DataError(
        problem,
        where=source,
        expected=f"annotations of {', '.join(names)}",
        found=f"{images} images without any{crowds}",
        remedy=f"if they are instances, set iscrowd to 0 (CVAT exports masks with iscrowd 1); otherwise {remedy}" if ignored else remedy,
    )


def _listed(unreadable: Sequence[Unreadable]) -> str:
    more = [f"and {len(unreadable) - _SHOWN} more"] if len(unreadable) > _SHOWN else []
    return "\n    ".join([*(image.message.replace("\n", "\n    ") for image in unreadable[:_SHOWN]), *more])


log = logging.getLogger(__name__)

#: why a valid box is left out
NO_AREA, OUTSIDE = "boxes without width or height", "boxes outside their image"

MISSING_IMAGE, UNUSABLE_LINE, EMPTY_RECORD = "missing or unreadable images", "unusable lines", "empty records"

#: because a missing part of the download must stop a run (CrowdHuman comes in thirds), and a single corrupt file must not
MAX_FAULTY = 0.1
MAX_EMPTY = 0.5  # because images without people are common in users' own data, but a file with mostly empty records has another format

_REMEDIES = {
    MISSING_IMAGE: "complete the download or check the image folder",
    UNUSABLE_LINE: "the file is corrupt, truncated or of another format: download or write it again",
    EMPTY_RECORD: "set data.keep_empty=true if images without people are intended",
}


@dataclass(frozen=True)
class Fault:
    """One record that is left out, and why."""

    kind: str
    where: str  # file and line
    problem: str  # a whole message


@dataclass(frozen=True)
class DroppedBox:
    """A box that is left out of a record that is kept."""

    reason: str
    image_id: int
    entry: str  # which, and its box


def report_dropped(source: Path, dropped: Counter[str]) -> None:
    """Log in one line how many boxes were left out, and why; silent if none."""
    if dropped := +dropped:
        log.warning("%s: left out %s", source, ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())))


class Faults:
    """The faults of one annotation file.

    Args:
        source: the annotation file.
        most: share of its records, 0 to 1, that may be faulty of each kind; for empty records at least ``MAX_EMPTY``.

    Raises:
        ConfigError: ``most`` is outside [0, 1].
    """

    def __init__(self, source: Path, most: float = MAX_FAULTY) -> None:
        if not 0 <= most <= 1:
            raise ConfigError(
                "data.max_faulty is not a fraction",
                where="data.max_faulty",
                expected="0 to 1",
                found=most,
                remedy=f"{MAX_FAULTY} is the default",
            )
        self.source, self.most = source, most
        self.listed: list[Fault] = []
        self.boxes: list[DroppedBox] = []

    def add(self, kind: str, where: str, problem: object) -> None:
        """Add a record that cannot be used."""
        self.listed.append(Fault(kind, where, str(problem)))

    def counts(self) -> Counter[str]:
        """Number of faults of each kind."""
        return Counter(fault.kind for fault in self.listed)

    def settle(self, total: int) -> None:
        """Log what is left out of ``total`` records, the first of each kind in full.

        Raises:
            DataError: some kind exceeds the share ``most``.
        """
        for kind, count in self.counts().items():
            first = [fault.problem.replace("\n", "\n    ") for fault in self.listed if fault.kind == kind][:_SHOWN]
            more = [f"and {count - _SHOWN} more: cis-seg check lists them all"] if count > _SHOWN else []
            most = max(self.most, MAX_EMPTY) if kind == EMPTY_RECORD else self.most
            if count > most * total:
                raise DataError(
                    f"too many records cannot be used: {count} {kind} of {total}",
                    where=self.source,
                    expected=f"at most {most:.4g} of the records (data.max_faulty)",
                    found="\n    ".join([*first, *more]),
                    remedy=f"{self._remedy(kind)}; data.max_faulty=1 skips all unusable records, however many there are",
                )
            log.warning("%s: left out %d %s of %d records:\n    %s", self.source, count, kind, total, "\n    ".join([*first, *more]))

    def _remedy(self, kind: str) -> str:
        """The remedy of every fault of a kind if they share one, otherwise a general one."""
        own = {fault.problem.partition("\n  what to do: ")[2] for fault in self.listed if fault.kind == kind}
        return own.pop() or _REMEDIES[kind] if len(own) == 1 else _REMEDIES[kind]
