"""Numbered PNG pages of panels; at most one page is in memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from PIL import Image

from cis_seg.visualization.drawing import Pixels, contact_sheet

PER_PAGE, COLUMNS = 6, 2  # six panels of 960 x 560 pixels fill a page of about 1900 x 1700, which fits on a screen


class Pages:
    """``<stem>_000.png``, ``<stem>_001.png``, ... in ``folder``; a context manager that writes the last page on exit.

    Args:
        folder: created if missing; pages of this stem from an earlier call are replaced.
        stem: prefix of the pages' names.
        most: maximum number of pages; None for any number.
    """

    def __init__(self, folder: Path, stem: str, most: int | None = None) -> None:
        self.folder, self.stem, self.most = folder, stem, most
        self.written: list[Path] = []
        self._panels: list[Pixels] = []

    @property
    def wanted(self) -> bool:
        """Whether another panel fits."""
        return self.most is None or len(self.written) < self.most

    def add(self, panel: Pixels) -> None:
        """Add a panel (H, W, 3) to the current page."""
        assert self.wanted, "check `wanted` before drawing a panel"
        self._panels.append(panel)
        if len(self._panels) == PER_PAGE:
            self.turn()

    def turn(self) -> None:
        """Write the current page unless it is empty; the next panel starts a new one."""
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
