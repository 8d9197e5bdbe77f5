"""The specification of a generated crowd, its presets, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cis_seg.errors import DataError

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
        """Spec, generator version, and sizes and checksums of the files."""
        return self.root / "manifest.json"

    @property
    def card(self) -> Path:
        """The data card."""
        return self.root / "CARD.md"

    def odgt(self, split: str) -> Path:
        """CrowdHuman annotations of ``train`` or ``val``."""
        return self.root / f"annotation_{split}.odgt"

    def masks(self, split: str) -> Path:
        """COCO json of the ground-truth visible masks of ``train`` or ``val``."""
        return self.root / f"masks_{split}.json"

    def annotation_files(self) -> tuple[Path, ...]:
        """The annotation files of both splits."""
        return tuple(path for split in SPLITS for path in (self.odgt(split), self.masks(split)))


@dataclass(frozen=True)
class CrowdSpec:
    """All parameters that determine the pixels and annotations of a generated crowd.

    With the same library versions, the same spec gives the same files, regardless of the number of processes.

    Raises:
        DataError: a field is out of range; the message names it.
    """

    seed: int = 0  # of all random streams
    train_images: int = 800
    val_images: int = 80
    height: int = 240  # pixels
    width: int = 320  # pixels
    min_people: int = 3  # per image
    max_people: int = 8  # per image
    min_person_height: float = 120.0  # pixels, of the smallest upright adult
    max_person_height: float = 190.0  # pixels, of the largest
    crowding: float = 0.5  # 0: members of a group stand apart, 1: they occlude each other
    clothes_texture: float = 0.1  # folds, patterns and shading of clothes; 0: flat colours, 1: strong
    background_texture: float = 0.12  # grain of walls and ground; 0: smooth gradients, 1: strong
    background_structures: float = 1.5  # mean number of windows, posts, trees, benches, ...
    one_color: float = 0.4  # probability of an overall or a dress instead of shirt and trousers
    match_neighbour: float = 0.5  # probability that a garment copies the colour of another person in the scene
    match_background: float = 0.0  # probability that a garment has the colour of the backdrop behind it
    background_contrast: float = 14.0  # minimum Lab distance of all other garments to the backdrop behind them
    shadow: float = 0.1  # strength of the shadow around the feet, 0 to 1
    grain: float = 1.0  # standard deviation of the camera noise, in 1/255
    ignore_probability: float = 0.06  # probability of an ignore region (distant group or statue)
    jpeg_quality: int = 92

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "seed": (0, 2**31), "train_images": (1, 10**6), "val_images": (1, 10**6), "height": (48, 4096), "width": (48, 4096),
            "min_people": (1, self.max_people), "max_people": (self.min_people, 60), "min_person_height": (24, self.max_person_height),
            "max_person_height": (self.min_person_height, 2 * self.height), "crowding": (0, 1), "clothes_texture": (0, 1),
            "background_texture": (0, 1), "background_structures": (0, 20), "one_color": (0, 1), "match_neighbour": (0, 1),
            "match_background": (0, 1), "background_contrast": (0, 40), "shadow": (0, 1), "grain": (0, 30), "ignore_probability": (0, 1),
            "jpeg_quality": (50, 100),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise DataError(
                    f"crowd spec: {name} is out of range",
                    expected=f"{low} to {high}",
                    found=value,
                    remedy=f"set {name} to a value in that range",
                )


EASY = CrowdSpec()
"""Plain clothes on plain backgrounds: learnable by a small network on two CPU cores in 15 minutes."""

REAL = CrowdSpec(
    height=360, width=480, min_people=3, max_people=10, min_person_height=120.0, max_person_height=280.0, crowding=0.6,
    clothes_texture=0.9, one_color=0.1, background_texture=1.0, background_structures=7.0, match_neighbour=0.85, match_background=0.4,
    background_contrast=0.0, shadow=0.3, grain=3.0, ignore_probability=0.2,
)  # fmt: skip
"""Colour edges about as informative as those of real COCO persons; the data card compares both."""

PRESETS = {"easy": EASY, "real": REAL}
