"""Records of a data set that cannot be used: counted by kind, listed, and fatal only where they are many."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cis_seg.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MISSING_IMAGE, UNUSABLE_LINE, EMPTY_RECORD = "missing or unreadable images", "unusable lines", "empty records"

#: because a part of the download that is missing must stop a run (CrowdHuman's come as thirds), and a damaged file must not
MAX_FAULTY = 0.1
MAX_EMPTY = 0.5  # because pictures of nobody are common in people's own data, and a file where most are empty is of another form
_SHOWN = 3  # faults of a kind in a message; the check of the data set lists them all

_REMEDIES = {
    MISSING_IMAGE: "complete the download or check the image folder",
    UNUSABLE_LINE: "the file is damaged, cut short or of another form: download or write it again",
    EMPTY_RECORD: "set data.keep_empty=true if images without anybody are meant to be there",
}


@dataclass(frozen=True)
class Fault:
    """One record that is left out, and why."""

    kind: str
    where: str  # file and line
    problem: str  # a whole message


@dataclass(frozen=True)
class DroppedBox:
    """One entry that is left out of a record that is kept."""

    reason: str
    image_id: int
    entry: str  # which, and its box


class Faults:
    """The faults of one annotation file.

    Args:
        source: the annotation file.
        most: share of its records, 0 to 1, that may be faulty of any one kind; of empty records ``MAX_EMPTY`` may be there at any rate.

    Raises:
        ConfigError: ``most`` is no share.
    """

    def __init__(self, source: Path, most: float = MAX_FAULTY) -> None:
        if not 0 <= most <= 1:
            raise ConfigError(
                "this is no share", where="data.max_faulty", expected="0 to 1", found=most, remedy=f"{MAX_FAULTY} is the default"
            )
        self.source, self.most = source, most
        self.listed: list[Fault] = []
        self.boxes: list[DroppedBox] = []

    def add(self, kind: str, where: str, problem: object) -> None:
        """One more record that cannot be used."""
        self.listed.append(Fault(kind, where, str(problem)))

    def counts(self) -> Counter[str]:
        """How many there are of each kind."""
        return Counter(fault.kind for fault in self.listed)

    def settle(self, total: int) -> None:
        """Says what is left out of ``total`` records, the first of each kind in full.

        Raises:
            DataError: of some kind more than the share ``most``.
        """
        for kind, count in self.counts().items():
            first = [fault.problem.replace("\n", "\n    ") for fault in self.listed if fault.kind == kind][:_SHOWN]
            more = [f"and {count - _SHOWN} more: scripts/check_dataset.py lists them all"] if count > _SHOWN else []
            most = max(self.most, MAX_EMPTY) if kind == EMPTY_RECORD else self.most
            if count > most * total:
                raise DataError(
                    f"too many records cannot be used: {count} {kind} of {total}",
                    where=self.source,
                    expected=f"at most {most:.4g} of the records (data.max_faulty)",
                    found="\n    ".join([*first, *more]),
                    remedy=f"{_REMEDIES[kind]}; data.max_faulty=1 leaves out any number",
                )
            log.warning("%s: left out %d %s of %d records:\n    %s", self.source, count, kind, total, "\n    ".join([*first, *more]))
