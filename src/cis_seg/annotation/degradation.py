"""Masks that are fewer or worse than the true ones, for experiments with mixed supervision and for tests.

Legend: H W size of the image in pixels; a mask is (H, W) bool.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.coco.checks import has_outline
from cis_seg.coco.entries import Annotation
from cis_seg.coco.reader import CocoFile
from cis_seg.errors import ConfigError

Mask = NDArray[np.bool_]
Generator = np.random.Generator

GROWTH, SHIFT = 0.1, 0.3  # at full noise: radius of the dilation in sides of the box (geometric mean), shift in sides
SCORE_ERROR = 0.1  # standard deviation of a score around the IoU that it estimates
MOST_SURE = 0.99  # a score of 1 would mean a true mask


@dataclass(frozen=True)
class Degradation:
    """How many masks remain, and how wrong they are.

    Args:
        mask_share: share of the masks that remain, a random choice; a larger share includes the choice of a smaller one.
        noise: 0 leaves the masks as they are; at 1, their IoU with the true masks is about 0.4.
        scores: give each degraded mask a ``score``: its IoU with the true mask, plus an error of standard deviation 0.1.
        seed: of all random choices.

    Raises:
        ConfigError: a share or noise outside [0, 1], or a negative seed.
    """

    mask_share: float = 1.0
    noise: float = 0.0
    scores: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("mask_share", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is out of range", where=name, expected="0 to 1", found=getattr(self, name))
        if self.seed < 0:
            raise ConfigError("the seed is negative", where="seed", expected="0 or more", found=self.seed)


@dataclass(frozen=True)
class Degraded:
    """The annotations, and what has become of the masks."""

    annotations: list[dict[str, Any]]  # all of the file, in its order
    masks: int  # that remain
    people: int  # annotations other than ignore regions
    mean_iou: float | None  # of the remaining masks with the true ones; None without any


def degraded(file: CocoFile, options: Degradation) -> Degraded:
    """Remove and degrade masks of a COCO file; boxes, areas and ignore regions stay.

    Each mask gets one of four faults, an equal chance each, whose size is ``options.noise``: it is dilated, shifted, extended by the part
    of the nearest other mask that is closest to it (dilated in an image without another mask), or it lacks a part on one side, at full
    noise all of it.

    Args:
        file: its masks are checked.
        options: share, noise, scores and seed.
    """
    masked = [i for i, a in enumerate(file.annotations) if not a.crowd and has_outline(a.entry.get("segmentation"))]
    order = np.random.default_rng(options.seed).permutation(len(masked))
    kept = {masked[place] for place in order[: round(options.mask_share * len(masked))].tolist()}
    images: dict[int, list[int]] = defaultdict(list)
    for index in masked:
        images[file.annotations[index].image_id].append(index)
    entries, ious = [dict(a.entry) for a in file.annotations], list[float]()
    for index in set(masked) - kept:
        del entries[index]["segmentation"]
    if options.noise:
        for indices in images.values():
            ious += _degrade_image(file, indices, kept, entries, options)
    masks = sum(bool(entries[index].get("segmentation")) for index in kept)
    people = sum(not a.crowd for a in file.annotations)
    return Degraded(entries, masks, people, float(np.mean(ious)) if ious else 1.0 if masks else None)


def _degrade_image(
    file: CocoFile, indices: Sequence[int], kept: set[int], entries: list[dict[str, Any]], options: Degradation
) -> list[float]:
    """Change the ``entries`` of one image whose masks remain; return the IoUs of the degraded masks that have a pixel."""
    masks = {index: _mask(file.annotations[index], file) for index in indices}
    ious = []
    for index in indices:
        if index not in kept:
            continue
        generator = np.random.default_rng([options.seed, index])
        others = [mask for other, mask in masks.items() if other != index and mask.any()]
        changed = degraded_mask(masks[index], others, options.noise, generator)
        if not changed.any():
            del entries[index]["segmentation"]
            continue
        ious.append(float((changed & masks[index]).sum() / (changed | masks[index]).sum()))
        entries[index]["segmentation"] = rle.to_json(rle.encode(changed))
        if options.scores:
            score = np.clip(ious[-1] + SCORE_ERROR * generator.standard_normal(), 0, MOST_SURE)
            entries[index]["score"] = round(float(score), 3)
    return ious


def _mask(annotation: Annotation, file: CocoFile) -> Mask:
    code = rle.from_segmentation(annotation.entry["segmentation"], file.image_size(annotation.image_id))
    assert code is not None
    return rle.decode(code).astype(bool)


def degraded_mask(mask: Mask, others: Sequence[Mask], noise: float, generator: Generator) -> Mask:
    """Return ``mask`` with a random fault of the size ``noise``; ``others`` are the masks of other instances, none empty."""
    fault, angle = int(generator.integers(4)), float(generator.uniform(0, 2 * np.pi))
    if not mask.any():
        return mask
    if fault == 0 or (fault == 2 and not others):
        return _dilated(mask, noise)
    if fault == 1:
        return _shifted(mask, noise, angle)
    return _extended(mask, others, noise) if fault == 2 else _cut(mask, noise, angle)


def _sides(mask: Mask) -> tuple[int, int]:
    """(height, width) of the tight box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def _dilated(mask: Mask, noise: float) -> Mask:
    height, width = _sides(mask)
    return np.asarray(_distance(mask) <= noise * GROWTH * (height * width) ** 0.5)


def _shifted(mask: Mask, noise: float, angle: float) -> Mask:
    height, width = _sides(mask)
    offset = np.array([[1, 0, noise * SHIFT * width * np.cos(angle)], [0, 1, noise * SHIFT * height * np.sin(angle)]])
    moved = cv2.warpAffine(mask.astype(np.uint8), offset.round(), mask.shape[::-1], flags=cv2.INTER_NEAREST)
    return moved.astype(bool)


def _extended(mask: Mask, others: Sequence[Mask], noise: float) -> Mask:
    """Return the union with the share ``noise`` of the nearest other mask, its pixels closest to ``mask``."""
    distance = _distance(mask)
    nearest = min(others, key=lambda other: float(distance[other].min()))
    return mask | (nearest & (distance <= np.quantile(distance[nearest], noise)))


def _cut(mask: Mask, noise: float, angle: float) -> Mask:
    """Return the mask without the share ``noise`` of its pixels that lies farthest in the direction ``angle``."""
    rows, columns = np.indices(mask.shape)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    return np.asarray(mask & (along < np.quantile(along[mask], 1 - noise)))


def _distance(mask: Mask) -> NDArray[np.float32]:
    """Return the distance of every pixel from ``mask`` in pixels, (H, W)."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
