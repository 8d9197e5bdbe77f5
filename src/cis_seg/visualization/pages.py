"""Pictures to look through: panels that come one by one, on numbered PNG pages. No more than one page is in memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from PIL import Image

from cis_seg.visualization.drawing import Pixels, contact_sheet

PER_PAGE, COLUMNS = 6, 2  # because six panels of 960 x 560 pixels fill a page of about 1900 x 1700, which a screen shows whole


class Pages:
    """``<stem>_000.png``, ``<stem>_001.png``, ... in ``folder``; a context manager that writes the last page when it is left.

    Args:
        folder: made if it is not there; pages of that stem from an earlier call are replaced.
        stem: what the pages' names begin with.
        most: pages at most, panels beyond them are not wanted; None for any number.
    """

    def __init__(self, folder: Path, stem: str, most: int | None = None) -> None:
        self.folder, self.stem, self.most = folder, stem, most
        self.written: list[Path] = []
        self._panels: list[Pixels] = []

    @property
    def wanted(self) -> bool:
        """Whether there is room for one more panel."""
        return self.most is None or len(self.written) < self.most

    def add(self, panel: Pixels) -> None:
        """One more panel (H, W, 3), on the page at hand."""
        assert self.wanted, "look at `wanted` first: drawing a panel takes time"
        self._panels.append(panel)
        if len(self._panels) == PER_PAGE:
            self.turn()

    def turn(self) -> None:
        """Writes the page at hand, if there is anything on it; the next panel begins another."""
        if self._panels:
            path = self.folder / f"{self.stem}_{len(self.written):03d}.png"
            Image.fromarray(contact_sheet(self._panels, columns=COLUMNS)).save(path)
            self.written.append(path)
            self._panels = []

    def __enter__(self) -> Pages:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{self.stem}_[0-9][0-9][0-9].png"):
            old.unlink()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.turn()
