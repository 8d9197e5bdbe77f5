"""Pixels that the masks of two or more people claim: as a mask, as a share, and marked in a picture.

Legend: n masks of one image of H W pixels; a view is the image at the size at which it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cis_seg.structures import RLE
from cis_seg.visualize import Pixels, fitted_mask

PERIOD, LINE = 9, 2  # px of a view: every 9 a white line of 2 and a black one of 2, so that people stay visible between them
LIGHT, DARK = (255, 255, 255), (0, 0, 0)  # both, because no colour is left that neither a mask nor a photo has


def contested_mask(masks: Sequence[Mapping[str, Any]]) -> RLE | None:
    """The pixels in two or more of n run-length codes; None without masks. No mask is decoded."""
    if not masks:
        return None
    claimed: Any = masks[0]
    contested: Any = coco_mask.merge([masks[0], _nothing(masks[0])], intersect=True)
    for mask in masks[1:]:
        both = coco_mask.merge([claimed, mask], intersect=True)
        claimed, contested = coco_mask.merge([claimed, mask]), coco_mask.merge([contested, both])
    return RLE(size=list(contested["size"]), counts=contested["counts"])


def contested_share(masks: Sequence[Mapping[str, Any]]) -> float:
    """Contested pixels over claimed pixels, 0 to 1; 0 where nothing is claimed."""
    contested = contested_mask(masks)
    claimed = float(coco_mask.area(coco_mask.merge(list(masks)))) if masks else 0.0
    return 0.0 if contested is None or not claimed else float(coco_mask.area(contested)) / claimed


def mark_contested(view: Pixels, masks: Sequence[Mapping[str, Any]]) -> Pixels:
    """A copy of ``view`` (h, w, 3) that is grey with black and white stripes where two or more of the masks (H, W) lie."""
    contested = contested_mask(masks)
    marked = view.copy()
    if contested is None or not coco_mask.area(contested):
        return marked
    inside = fitted_mask(contested, (view.shape[0], view.shape[1])) > 0
    marked[inside] = view[inside].mean(axis=1, keepdims=True).astype(np.uint8)  # the colour of nobody
    rows, columns = np.indices(inside.shape)
    phase = (rows + columns) % PERIOD
    marked[inside & (phase < LINE)] = LIGHT
    marked[inside & (phase >= LINE) & (phase < 2 * LINE)] = DARK
    return marked


def _nothing(mask: Mapping[str, Any]) -> Any:
    """The empty mask of the same size."""
    height, width = mask["size"]
    return coco_mask.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
