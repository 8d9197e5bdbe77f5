"""What the generated crowd is made of: one frozen description, and two named settings of it."""

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


@dataclass(frozen=True)
class CrowdSpec:
    """Everything that decides the pixels and the annotations of a generated crowd.

    The same spec gives the same files on the same library versions, whatever the number of processes.

    Raises:
        DataError: if a field is out of its range; the message names the field.
    """

    seed: int = 0  # start of every random stream
    train_images: int = 800
    val_images: int = 80
    height: int = 240  # pixels
    width: int = 320  # pixels
    min_people: int = 3  # people placed in an image, at least
    max_people: int = 8  # people placed in an image, at most
    min_person_height: float = 120.0  # pixels from crown to sole, the smallest adult standing upright
    max_person_height: float = 190.0  # pixels, the largest
    crowding: float = 0.5  # 0: neighbours of a group stand apart, 1: they stand in each other's way
    clothes_texture: float = 0.1  # folds, patterns and shading of clothes; 0: flat colours, 1: strong
    background_texture: float = 0.12  # grain of walls and ground; 0: smooth gradients, 1: strong
    background_structures: float = 1.5  # mean number of windows, posts, trees, benches, ...
    one_color: float = 0.4  # probability that shirt and trousers or skirt are one garment, an overall or a dress
    match_neighbour: float = 0.5  # probability that a garment has a colour that somebody of the scene already wears
    match_background: float = 0.0  # probability that a garment has the colour of what is behind it
    background_contrast: float = 14.0  # Lab distance that every other garment keeps from what is behind it
    shadow: float = 0.1  # how much a person darkens the ground around the feet, 0 to 1
    grain: float = 1.0  # standard deviation of the camera's noise, in 1/255
    ignore_probability: float = 0.06  # probability that an image has a region to ignore (far group, statue, poster)
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
                    remedy=f"give {name} a value in that range",
                )


EASY = CrowdSpec()
"""Calm clothes on calm backgrounds: what a small network can learn on two CPU cores in a quarter of an hour."""

REAL = CrowdSpec(
    height=360, width=480, min_people=3, max_people=10, min_person_height=120.0, max_person_height=280.0, crowding=0.6,
    clothes_texture=0.9, one_color=0.1, background_texture=1.0, background_structures=7.0, match_neighbour=0.85, match_background=0.4,
    background_contrast=0.0, shadow=0.3, grain=3.0, ignore_probability=0.2,
)  # fmt: skip
"""Colour edges about as telling as those of real COCO persons (the data card has both)."""

PRESETS = {"easy": EASY, "real": REAL}
