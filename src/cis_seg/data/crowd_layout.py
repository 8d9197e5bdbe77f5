"""Names of the files of a generated crowd on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val")


@dataclass(frozen=True)
class CrowdPaths:
    """The files of a generated crowd in ``root``."""

    root: Path

    @property
    def images(self) -> Path:
        """Folder of the JPEGs of both splits, ``<ID>.jpg``."""
        return self.root / "Images"

    @property
    def manifest(self) -> Path:
        """What the crowd was made from, and sizes and checksums of its files."""
        return self.root / "manifest.json"

    @property
    def card(self) -> Path:
        """The data card."""
        return self.root / "CARD.md"

    def odgt(self, split: str) -> Path:
        """CrowdHuman annotations of ``train`` or ``val``."""
        return self.root / f"annotation_{split}.odgt"

    def masks(self, split: str) -> Path:
        """COCO json of the true visible masks of ``train`` or ``val``."""
        return self.root / f"masks_{split}.json"

    def annotation_files(self) -> tuple[Path, ...]:
        """Both files of both splits."""
        return tuple(path for split in SPLITS for path in (self.odgt(split), self.masks(split)))
