"""Images that cannot be read while a run trains: others take their places, each is named once, and many of them stop the run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cis_seg.errors import DataError

log = logging.getLogger(__name__)

#: images that are tried for one place; because at a tenth of unreadable ones sixteen in a row do not happen by chance
ATTEMPTS = 16
_SHOWN = 3  # problems in a message; the log has had one line for each


@dataclass(frozen=True)
class Unreadable:
    """An image that was drawn and could not be read; words alone, because the error would keep the open file alive."""

    path: Path
    problem: str
    found: str
    message: str  # all of it

    @classmethod
    def from_error(cls, path: Path, error: DataError) -> Unreadable:
        """What ``error`` says about ``path``."""
        return cls(path, error.problem, str(error.found), str(error))


def substitute(num_images: int, seed: int, position: int, attempt: int) -> int:
    """The image that takes ``position`` of the training stream where ``attempt`` (1, 2, ..) others could not be read.

    It depends on nothing else, so that a continued run, another number of workers or of devices draws the same.
    """
    assert attempt > 0  # because zeros at its end do not change a seed: attempt 0 would repeat the transform's draws
    return int(np.random.default_rng([seed, position, attempt]).integers(num_images))


class UnreadableImages:
    """The different images that one process could not read since it started.

    Args:
        source: the annotation file, for messages.
        total: images of the data set.
        most: share of them, 0 to 1, that may be unreadable (``data.max_faulty``).
    """

    def __init__(self, source: Path, total: int, most: float) -> None:
        self.source, self.total, self.most = source, total, most
        self.found: dict[Path, Unreadable] = {}

    def add(self, unreadable: Sequence[Unreadable]) -> None:
        """Names those that are new.

        Raises:
            DataError: they are more than the share ``most``.
        """
        for image in unreadable:
            if image.path not in self.found:
                self.found[image.path] = image
                count = f"{len(self.found)} of {self.total} so far"
                log.warning("another image takes the place of one that cannot be read (%s): %s", count, image.message)
        if len(self.found) > self.most * self.total:
            raise DataError(
                f"too many images cannot be read: {len(self.found)} of {self.total}",
                where=self.source,
                expected=f"at most {self.most:.4g} of the images (data.max_faulty)",
                found=_listed(list(self.found.values())),
                remedy="complete the download or copy the files again, then resume=true; data.max_faulty=1 trains on what can be read",
            )


def none_is_left(unreadable: Sequence[Unreadable]) -> DataError:
    """The error where all images that were tried for one place are unreadable."""
    return DataError(
        f"{len(unreadable)} images drawn in a row cannot be read",
        expected="images",
        found=_listed(unreadable),
        remedy="check the image folder: is the disk still there, are the files whole?",
    )


def not_scored(image: Unreadable) -> DataError:
    """The error where an image to score cannot be read: a score without it would be another number."""
    return DataError(
        f"an image to score cannot be read, and leaving it out would change the score: {image.problem}",
        where=image.path,
        found=image.found,
        remedy="mend the file, or take the image and its annotations out of the scored set",
    )


def _listed(unreadable: Sequence[Unreadable]) -> str:
    more = [f"and {len(unreadable) - _SHOWN} more"] if len(unreadable) > _SHOWN else []
    return "\n    ".join([*(image.message.replace("\n", "\n    ") for image in unreadable[:_SHOWN]), *more])
