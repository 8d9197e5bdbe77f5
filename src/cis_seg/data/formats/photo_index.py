"""The photos of a folder by name, for label files that name their photo and may name it wrongly."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PureWindowsPath

from cis_seg.data.images import IMAGE_SUFFIXES


class PhotoIndex:
    """All photos below a folder.

    Args:
        folder: is searched with the folders in it.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
        self.photos = [path for path in files if path.is_file()]
        self._places = {os.path.abspath(path): path for path in self.photos}
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in self.photos:
            self._named[path.name.casefold()].append(path)
            self._named[path.stem.casefold()].append(path)

    def find(self, hint: object, label: Path) -> Path | None:
        """The photo of a label file.

        Args:
            hint: what the label file calls it: a name or path, of any system, with or without its extension, or nothing.
            label: the label file.

        Returns:
            The file that a relative ``hint`` leads to; otherwise the only photo with its name or with the name of the label file, or of
            several the one that shares the most folders with the label file; otherwise None.
        """
        named = PureWindowsPath(hint) if isinstance(hint, str) else PureWindowsPath()
        if named.name and not named.anchor and (direct := Path(os.path.normpath(label.parent.joinpath(*named.parts)))).is_file():
            return self._places.get(os.path.abspath(direct), direct)
        for key in (named.name, label.stem):
            if found := self._named.get(key.casefold()):
                shared = [_shared(path.parts, label.parts) for path in found]
                return found[shared.index(max(shared))] if shared.count(max(shared)) == 1 else None
        return None


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of folders that two paths have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
