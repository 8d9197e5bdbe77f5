"""Photos turned by EXIF: whether their boxes lie on the pixels as stored, or as viewers show them.

Sizes decide for photos turned by 90 degrees. For the others, and for square ones, the colours decide: an instance differs more from its
surroundings than a box at another place does. Of 662 boxes of COCO, 76 % contrast more where they were drawn than after a turn by 180
degrees, so that some dozen boxes suffice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from cis_seg.data.image_files import Size, read_headers
from cis_seg.data.images import CORRUPT, opened

_PHOTOS = 32  # photos whose colours are compared; few, because decoding takes a tenth of a second each
_SIDE = 320  # px, their longer side for the comparison
_MIN_BOX = 12  # px of a box's side there; smaller ones have no colours to compare
_MAX_CHANCE = 0.01  # significance level: a majority of votes that random votes reach more often decides nothing
_LEVELS = 6  # per channel, of the colour histograms

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BoxedPhoto:
    """A photo and its boxes, to compare."""

    name: str
    stated: Size  # (height, width) in the annotation file, (0, 0) if it states none
    boxes: Array  # (G, 4) xyxy


@dataclass
class Turned:
    """The photos of a data set that EXIF turns, and what else the headers of its photos say."""

    total: int  # photos that were looked at
    orientations: Counter[int] = field(default_factory=Counter)
    fits: dict[str, list[str]] = field(default_factory=lambda: {"ignore": [], "apply": [], "unknown": []})  # names by the option that fits
    animated: list[str] = field(default_factory=list)  # names of those with other frames than the first
    deep: list[str] = field(default_factory=list)  # names of those with more than 8 bits per channel
    votes: tuple[int, int] = (0, 0)  # boxes of the unknown ones that agree with the stored pixels, and with the turned ones

    @property
    def likely(self) -> str | None:
        """``ignore`` or ``apply`` for the photos whose sizes do not tell; None if the colours do not tell either."""
        stored, upright = self.votes
        if _chance(max(self.votes), stored + upright) > _MAX_CHANCE:
            return None
        return "ignore" if stored > upright else "apply"

    def problem(self, exif: str) -> tuple[str, str] | None:
        """What is wrong if the photos are read with the option ``exif``, and what to do; None if nothing is."""
        other = "ignore" if exif == "apply" else "apply"
        right, wrong, unknown = self.fits[exif], self.fits[other], self.fits["unknown"]
        remedy = f"set data.exif={other}, and look at the boxes with cis-seg browse"
        if wrong:
            found = f"the annotations of {len(wrong)} state the size of the {_READ[other]} photo ({wrong[0]} for one)"
            if right:
                found += f", those of {len(right)} the size of the {_READ[exif]} one ({right[0]} for one)"
                remedy = "turn the pixels of all photos (magick mogrify -auto-orient) and correct the annotations drawn on stored photos"
        elif unknown and self.likely == other:
            found = f"{max(self.votes)} of {sum(self.votes)} boxes agree better with the {_READ[other]} photo ({unknown[0]} for one)"
        elif unknown and self.likely is None and not right:  # one tool annotated all photos alike
            found = f"neither sizes nor colours tell whether the boxes of {len(unknown)} were drawn on the stored or the turned photo"
            found += f" ({unknown[0]} for one); they are read {_READ[exif]}"
            remedy = f"look at the boxes with cis-seg browse, and set data.exif={other} if they lie elsewhere"
        else:
            return None
        counts = ", ".join(f"{count} with orientation {number}" for number, count in sorted(self.orientations.items()))
        return f"{self.orientations.total()} of the {self.total} photos checked have an EXIF rotation ({counts}): {found}", remedy

    def remarks(self) -> list[str]:
        """What else the headers say."""
        frames = f"only the first frame of {len(self.animated)} animations or files of several pages is read"
        bits = f"{len(self.deep)} images have more than 8 bits per channel: each is scaled by the bits that it uses"
        return [f"{text} ({names[0]} for one)" for text, names in ((frames, self.animated), (bits, self.deep)) if names]


#: how a photo is read with an option
_READ = {"ignore": "stored", "apply": "turned"}


def turned_photos(folder: Path, photos: Iterable[BoxedPhoto]) -> Turned:
    """Read the headers of ``photos`` in ``folder``; those that EXIF turns and whose size does not tell are compared with their boxes.

    Files that cannot be read are left out.
    """
    listed = list(photos)
    headers = read_headers([folder / photo.name for photo in listed], "reading EXIF orientations", delay=2)
    found, unknown = Turned(len(listed)), list[BoxedPhoto]()
    for photo, header in zip(listed, headers, strict=True):
        if header is None:
            continue
        found.animated += [photo.name] * header.animated
        found.deep += [photo.name] * header.deep
        if header.orientation == 1:
            continue
        found.orientations[header.orientation] += 1
        sizes = {exif: header.size(exif) for exif in ("ignore", "apply")}
        fitting = [exif for exif, size in sizes.items() if photo.stated == size]
        found.fits[fitting[0] if len(fitting) == 1 else "unknown"].append(photo.name)
        if len(fitting) != 1:
            unknown.append(photo)
    found.votes = _votes(folder, unknown)
    return found


def _votes(folder: Path, photos: Sequence[BoxedPhoto]) -> tuple[int, int]:
    """How many boxes contrast more with their surroundings in the stored photo, and how many in the turned one."""
    with_boxes = [photo for photo in photos if len(photo.boxes)]
    stored, upright = 0, 0
    for photo in with_boxes[:: max(1, len(with_boxes) // _PHOTOS)][:_PHOTOS]:
        try:
            with opened(folder / photo.name) as image:
                size = image.size
                image.draft("RGB", (_SIDE, _SIDE))  # decodes a JPEG at a fraction of its size
                image.thumbnail((_SIDE, _SIDE))
                turned = ImageOps.exif_transpose(image)
                both = [_contrasts(np.asarray(view.convert("RGB")), photo.boxes, max(size)) for view in (image, turned)]
        except CORRUPT:
            continue
        stored += int((both[0] > both[1]).sum())
        upright += int((both[1] > both[0]).sum())
    return stored, upright


def _contrasts(pixels: NDArray[np.uint8], boxes: Array, longer: int) -> Array:
    """How much the colours of each box's middle differ from those around the box, 0 to 1; NaN if the box is too small or large."""
    height, width = pixels.shape[:2]
    values = (pixels // (256 // _LEVELS + 1)).astype(int) @ np.array([_LEVELS**2, _LEVELS, 1])
    scaled = (boxes * (max(height, width) / longer)).round().astype(int)
    return np.array([_contrast(values, np.clip(box, 0, [width, height] * 2)) for box in scaled])


def _contrast(values: NDArray[np.int_], box: NDArray[np.int_]) -> float:
    x0, y0, x1, y1 = box.tolist()
    w, h = x1 - x0, y1 - y0
    if min(w, h) < _MIN_BOX or 2 * w * h > values.size:
        return math.nan
    inner = values[y0 + h // 8 : y1 - h // 8, x0 + w // 4 : x1 - w // 4]
    left, top = max(0, x0 - w // 4), max(0, y0 - h // 8)
    wide = values[top : y1 + h // 8, left : x1 + w // 4]
    around = np.ones(wide.shape, bool)
    around[y0 - top : y1 - top, x0 - left : x1 - left] = False
    if not around.any():
        return math.nan
    return float(np.abs(_histogram(inner.ravel()) - _histogram(wide[around])).sum() / 2)


def _histogram(values: NDArray[np.int_]) -> Array:
    counts: Array = np.bincount(values, minlength=_LEVELS**3) / len(values)
    return counts


def _chance(agreeing: int, boxes: int) -> float:
    """The probability that at least ``agreeing`` of ``boxes`` agree if each does with probability one half."""
    return float(sum(math.comb(boxes, number) for number in range(agreeing, boxes + 1)) / 2**boxes)
