"""Overlapping tiles of a large image: their positions, and one set of instances from the detections of all of them.

A look is one input of the network: a tile, or the image as a whole. Many people on a large photo are too small for the network when it sees
the whole, and some are too large for a tile.

Legend: windows are (x0, y0, x1, y1) in whole pixels of the image, boxes xyxy; H W size of the image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil

import torch

from cis_seg.coco import rle
from cis_seg.coco.boxes import Box
from cis_seg.config.schema import TileConfig
from cis_seg.data.transforms import TestTransform, resized_size
from cis_seg.structures import RLE, Instances

log = logging.getLogger(__name__)

Window = tuple[int, int, int, int]

#: ``tiles=auto`` sees an image up to this many times as large as the network's input as a whole only
LARGE = 1.5
#: a box that ends within this share of the tile's side of a border is cut by it; predicted sides are a few pixels off
MARGIN = 0.02
#: IoU of the masks of one instance, in the region that both looks see
SAME = 0.5
#: share of a cut detection's mask inside a better-scored instance's from which it is a fragment of it
FRAGMENT = 0.7


def warn_without_tiles(tiling: TileConfig) -> None:
    """Warn about an overlap without effect."""
    if tiling.tiles is None and tiling.overlap != TileConfig.overlap:
        log.warning("overlap has no effect without tiles; for example tiles=auto")


def tile_windows(size: tuple[int, int], tiling: TileConfig, transform: TestTransform) -> list[Window]:
    """Return the tiles of an image of ``size`` (H, W), row by row; none if one look is enough.

    All tiles have the same size. They cover the image exactly, and neighbours overlap by at least ``tiling.overlap`` of their side. The
    tiles of ``auto`` are as large as the network's input at the largest size of ``transform``, so that the network sees them at the
    resolution of the image, and an image up to ``LARGE`` times as large as the input has none.
    """
    if tiling.tiles is None:
        return []
    if tiling.tiles == "auto":
        if max(size) <= LARGE * max(resized_size(*size, transform.size, transform.max_size)):
            return []
        sides = (transform.max_size, transform.size) if size[1] >= size[0] else (transform.size, transform.max_size)
    else:
        width, height = tiling.tiles.split("x")
        sides = int(width), int(height)
    columns, rows = (list(_spans(length, side, tiling.overlap)) for length, side in zip(reversed(size), sides, strict=True))
    windows = [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]
    return windows if len(windows) > 1 else []


def _spans(length: int, side: int, overlap: float) -> Iterator[tuple[int, int]]:
    """Yield the intervals of ``side`` pixels, evenly spread, that cover an axis."""
    side = min(side, length)
    step = max(side - ceil(overlap * side), 1)
    steps = -(-(length - side) // step)
    for index in range(steps + 1):
        start = (length - side) * index // max(steps, 1)
        yield start, start + side


@dataclass(frozen=True)
class _Found:
    """A detection of one look, or what several looks have found of one instance."""

    box: Box  # in pixels of the image
    score: float
    label: int
    mask: RLE  # of the image
    extent: Box  # around box and mask
    looks: frozenset[int]
    seen: RLE  # the region of these looks
    cut: tuple[bool, ...]  # (left, top, right, bottom): the side ends at a border of a tile, within the image

    @property
    def whole(self) -> bool:
        return not any(self.cut)


def merged(found: Sequence[tuple[Window, Instances]], size: tuple[int, int], nms_threshold: float) -> Instances:
    """Merge the detections of all looks at an image, so that each instance is found once, and whole if possible.

    Detections of one class are the same instance if the IoU of their masks in the region that both looks see reaches ``SAME``:

    1. A detection cut by an inner border of its tile is dropped if another tile holds the same instance whole.
    2. The other cut detections of the same instance are united, at most one per look: union of masks and boxes, best score.
    3. Best first, those that end at an inner border last, a detection is dropped if a kept one of other looks is the same: between whole
       ones by IoU of the masks (``SAME``) or the boxes (``nms_threshold``), for a cut one in the region that it was seen in, or as a
       fragment (``FRAGMENT``) of a better-scored one.

    Detections of one look are not compared with each other, that was done by its NMS. Those without a mask pixel are dropped.

    Args:
        found: per look its window and its detections, in pixels of the window.
        size: (H, W).
        nms_threshold: as in ``DetectionConfig``.
    """
    pieces = [piece for look, (window, instances) in enumerate(found) for piece in _pieces(look, window, instances, size)]
    kept: list[_Found] = []
    for label in sorted({piece.label for piece in pieces}):
        kept += _instances([piece for piece in pieces if piece.label == label], size, nms_threshold)
    kept.sort(key=lambda piece: -piece.score)
    return Instances(
        torch.tensor([piece.box for piece in kept], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([piece.score for piece in kept], dtype=torch.float32),
        torch.tensor([piece.label for piece in kept], dtype=torch.int64),
        tuple(piece.mask for piece in kept),
        size,
    )


def _pieces(look: int, window: Window, instances: Instances, size: tuple[int, int]) -> Iterator[_Found]:
    """Yield the detections of a look that have a mask, in pixels of the image."""
    x0, y0, x1, y1 = window
    seen = rle.placed(rle.full((y1 - y0, x1 - x0)), (x0, y0), size)
    inner = (x0 > 0, y0 > 0, x1 < size[1], y1 < size[0])
    margins = (MARGIN * (x1 - x0), MARGIN * (y1 - y0)) * 2
    rows = zip(instances.boxes.tolist(), instances.scores.tolist(), instances.labels.tolist(), instances.masks, strict=True)
    for (left, top, right, bottom), score, label, code in rows:
        if rle.area(code):
            mask = rle.placed(code, (x0, y0), size)
            box = (left + x0, top + y0, right + x0, bottom + y0)
            gaps = (left, top, x1 - x0 - right, y1 - y0 - bottom)
            cut = tuple(border and gap < margin for border, gap, margin in zip(inner, gaps, margins, strict=True))
            yield _Found(box, score, label, mask, _extent(box, mask), frozenset([look]), seen, cut)


def _extent(box: Box, mask: RLE) -> Box:
    x, y, width, height = rle.tight_box(mask)
    return min(box[0], x), min(box[1], y), max(box[2], x + width), max(box[3], y + height)


def _instances(pieces: Sequence[_Found], size: tuple[int, int], nms_threshold: float) -> list[_Found]:
    """Return the instances of one class."""
    whole = [piece for piece in pieces if piece.whole]
    in_tiles = [piece for piece in whole if rle.area(piece.seen) < size[0] * size[1]]
    cut = [piece for piece in pieces if not piece.whole and not any(_agreement(piece, other) >= SAME for other in in_tiles)]
    kept: list[_Found] = []
    for piece in sorted([*whole, *_united(cut)], key=lambda piece: (not piece.whole, -piece.score)):
        if not any(_repeats(piece, other, nms_threshold) for other in kept):
            kept.append(piece)
    return kept


def _united(cut: Sequence[_Found]) -> list[_Found]:
    """Unite the cut detections of one instance, those that agree best first."""
    pairs = [(_agreement(first, second), i, j) for (i, first), (j, second) in combinations(enumerate(cut), 2)]
    groups = dict(enumerate(cut))
    group_of = list(groups)
    for _, i, j in sorted((pair for pair in pairs if pair[0] >= SAME), key=lambda pair: -pair[0]):
        first, second = sorted((group_of[i], group_of[j]))
        if not groups[first].looks & groups[second].looks:
            groups[first] = _union(groups[first], groups.pop(second))
            group_of = [first if group == second else group for group in group_of]
    return list(groups.values())


def _union(first: _Found, second: _Found) -> _Found:
    """Return both as one; each side of the box is that of the detection that reaches farther."""
    farther = [sign * b > sign * a for sign, a, b in zip((-1, -1, 1, 1), first.box, second.box, strict=True)]
    x0, y0, x1, y1 = (b if far else a for far, a, b in zip(farther, first.box, second.box, strict=True))
    box = (x0, y0, x1, y1)
    mask = rle.merge([first.mask, second.mask])
    return replace(
        first,
        box=box,
        score=max(first.score, second.score),
        mask=mask,
        extent=_extent(box, mask),
        looks=first.looks | second.looks,
        seen=rle.merge([first.seen, second.seen]),
        cut=tuple(b if far else a for far, a, b in zip(farther, first.cut, second.cut, strict=True)),
    )


def _agreement(first: _Found, second: _Found) -> float:
    """Return the IoU of the masks in the region that both looks see; 0 for detections of one look."""
    if first.looks & second.looks or not _touch(first.extent, second.extent):
        return 0.0
    both = rle.shared_area(first.mask, second.mask)
    either = rle.shared_area(first.mask, second.seen) + rle.shared_area(second.mask, first.seen) - both
    return both / either if both else 0.0


def _repeats(piece: _Found, kept: _Found, nms_threshold: float) -> bool:
    """Return whether ``piece`` shows the instance of ``kept``."""
    if piece.looks & kept.looks or not _touch(piece.extent, kept.extent):
        return False
    both, area = rle.shared_area(piece.mask, kept.mask), rle.area(piece.mask)
    if piece.whole:
        return both >= SAME * (area + rle.area(kept.mask) - both) or _box_iou(piece.box, kept.box) > nms_threshold
    return _agreement(piece, kept) >= SAME or (both >= FRAGMENT * area and piece.score <= kept.score)


def _touch(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _box_iou(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)
