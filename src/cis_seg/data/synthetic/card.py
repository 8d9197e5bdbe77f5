"""The data card of a generated crowd: counts, crowding, and colour similarity of neighbouring pixels.

Legend: H W image size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cis_seg.coco import rle
from cis_seg.coco.boxes import largest_iou
from cis_seg.data.synthetic.spec import SPLITS, CrowdPaths, CrowdSpec
from cis_seg.errors import DataError
from cis_seg.ops.color import color_similarity, pooled_colors
from cis_seg.ops.grids import gather_neighbours

COLOR_THRESH = 0.3  # threshold on the similarity in training: a Lab distance of 2.4


@dataclass(frozen=True)
class EdgeShares:
    """Share of the edges of each kind with colour similarity >= ``COLOR_THRESH``, 0 to 1; NaN if there are no such edges."""

    inside: float  # from a person to the same person
    person_person: float  # to another person
    person_background: float  # to the background, in either direction
    background: float  # from background inside some visible box to background anywhere


@dataclass(frozen=True)
class LabelledImage:
    """One image with its ground truth."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    owner: NDArray[np.int64]  # (H, W) 0 background, n the n-th person, -1 unknown (its edges do not count)
    in_box: NDArray[np.bool_]  # (H, W) inside the visible box of a person


def edge_shares(images: Iterable[LabelledImage], *, stride: int, dilation: int) -> EdgeShares:
    """Measure all edges of all images on the grid and with the colours that training uses.

    Args:
        images: images to measure.
        stride: mask stride; colours are averaged over its cells, owners are sampled at ``[stride // 2 :: stride]`` like box masks.
        dilation: distance of the eight neighbours on that grid.
    """
    alike, total = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    for labelled in images:
        similar, kinds = _edges(labelled, stride, dilation)
        for kind in range(4):
            chosen = kinds == kind
            total[kind] += chosen.sum()
            alike[kind] += (chosen & similar).sum()
    shares = alike.double() / torch.where(total > 0, total, torch.nan)
    return EdgeShares(*(float(share) for share in shares))


def _edges(labelled: LabelledImage, stride: int, dilation: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (E, h, w) whether the colours are similar, and (E, h, w) the kind of edge: index of the field of EdgeShares, or -1."""
    height, width = (side // stride * stride for side in labelled.owner.shape)
    pixels = torch.from_numpy(np.ascontiguousarray(labelled.image[:height, :width])).permute(2, 0, 1)[None]
    owner = torch.from_numpy(np.ascontiguousarray(labelled.owner[stride // 2 : height : stride, stride // 2 : width : stride]))
    in_box = torch.from_numpy(np.ascontiguousarray(labelled.in_box[stride // 2 : height : stride, stride // 2 : width : stride]))
    colors = pooled_colors(pixels, stride)
    similar = color_similarity(colors, torch.ones_like(owner)[None], dilation=dilation)[0] >= COLOR_THRESH
    # shift owners by 1, so that neighbours outside the map (0) become unknown
    there = gather_neighbours((owner + 1)[None, None], 3, dilation)[0, :, 0] - 1
    here = owner.expand_as(there)
    kinds = torch.full_like(there, -1)
    kinds[(here > 0) & (there > 0)] = 1
    kinds[(here > 0) & (there == here)] = 0
    kinds[((here > 0) & (there == 0)) | ((here == 0) & (there > 0))] = 2
    kinds[(here == 0) & (there == 0) & in_box] = 3
    return similar, kinds


EDGE_IMAGES = 80  # number of validation images measured: about 100,000 edges of the rarest kind
GRIDS = ((4, 2), (4, 1), (2, 1))  # (mask stride, dilation)
# the same measurement on the 245 single persons of 54 COCO 2017 images, resized to a shorter side of 480
COCO_PERSONS = {
    (4, 2): EdgeShares(0.254, 0.075, 0.055, 0.287),
    (4, 1): EdgeShares(0.362, 0.102, 0.099, 0.386),
    (2, 1): EdgeShares(0.411, 0.128, 0.156, 0.413),
}
CROWDING = ("none (0)", "low (< 0.3)", "mid (0.3 - 0.5)", "high (> 0.5)")  # by largest IoU with a neighbour's box, as in metrics.json


def crowd_card(paths: CrowdPaths, spec: CrowdSpec) -> str:
    """Return the card as Markdown, measured on the files of ``paths``.

    Raises:
        DataError: an image cannot be read.
    """
    lines = ["# Generated crowd", "", "All people, places and annotations are generated from a seed; no real person is shown.",
             "The layout is CrowdHuman's; `masks_*.json` contains the true visible masks (for testing and `supervision=mask` only).", "",
             "| | " + " | ".join(SPLITS) + " |", "|---|" + "---|" * len(SPLITS)]  # fmt: skip
    columns = [_statistics(paths, split) for split in SPLITS]
    lines += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    lines += ["", *_edge_table(paths), "", "## Spec", "", *(f"* {name}: {value}" for name, value in asdict(spec).items())]
    return "\n".join(lines) + "\n"


def _edge_table(paths: CrowdPaths) -> list[str]:
    images = list(labelled_images(paths, "val"))
    lines = ["## Neighbouring pixels of similar colour (similarity >= 0.3, a Lab distance of at most 2.4)", "",
             f"First {len(images)} validation images; `COCO`: 245 real persons (54 images, shorter side 480), measured in the same way.",
             "The last column counts edges between background pixels, starting inside a person's box.", "",
             "| mask stride, dilation | | inside a person | person to person | person to background | background |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for stride, dilation in GRIDS:
        measured = edge_shares(images, stride=stride, dilation=dilation)
        for name, shares in (("here", measured), ("COCO", COCO_PERSONS[stride, dilation])):
            lines.append(f"| {stride}, {dilation} | {name} | " + " | ".join(f"{share:.3f}" for share in asdict(shares).values()) + " |")
    return lines


def labelled_images(paths: CrowdPaths, split: str) -> Iterator[LabelledImage]:
    """Yield the first images of a split with the owner of each pixel.

    Raises:
        DataError: an image cannot be read.
    """
    truth = json.loads(paths.masks(split).read_text(encoding="utf-8"))
    for image in truth["images"][:EDGE_IMAGES]:
        file = paths.images / image["file_name"]
        pixels = cv2.imread(str(file))
        if pixels is None:
            raise DataError(
                "an image of the generated crowd cannot be read", where=file, remedy=f"delete {paths.root}: it is generated again"
            )
        owner = np.zeros(pixels.shape[:2], np.int64)
        in_box = np.zeros(pixels.shape[:2], np.bool_)
        people = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        for number, entry in enumerate(people, 1):
            owner[decode(entry)] = number
            x, y, w, h = entry["bbox"]
            in_box[y : y + h, x : x + w] = True
        yield LabelledImage(np.ascontiguousarray(pixels[..., ::-1]), owner, in_box)


def decode(entry: dict[str, Any]) -> NDArray[np.bool_]:
    """Return the (H, W) mask of one annotation of ``masks_*.json``."""
    return rle.decode(entry["segmentation"]).astype(np.bool_)


def _statistics(paths: CrowdPaths, split: str) -> dict[str, str]:
    """Return name and formatted value of each statistic of one split."""
    records = [json.loads(line) for line in paths.odgt(split).read_text(encoding="utf-8").splitlines()]
    truth = json.loads(paths.masks(split).read_text(encoding="utf-8"))["annotations"]
    entries = [entry for record in records for entry in record["gtboxes"]]
    seen = [[e for e in r["gtboxes"] if e["tag"] == "person" and not e["extra"].get("ignore", 0)] for r in records]
    boxes = [np.array([e["vbox"] for e in people], np.float64).reshape(-1, 4) for people in seen]
    largest = np.concatenate([largest_iou(group) for group in boxes])
    sizes = np.concatenate(boxes)
    crowding = np.bincount(np.digitize(largest, [1e-9, 0.3, 0.5]), minlength=4) / max(len(largest), 1)
    fill = np.array([entry["area"] / (entry["bbox"][2] * entry["bbox"][3]) for entry in truth])
    ellipse = np.array([_ellipse_iou(entry) for entry in truth])
    statistics = {
        "images": f"{len(records)}",
        "people": f"{len(sizes)}",
        "people with too little visible (ignored)": f"{sum(e['tag'] == 'person' for e in entries) - len(sizes)}",
        "ignore regions": f"{sum(e['tag'] == 'mask' for e in entries)}",
        "people per image, mean and maximum": f"{len(sizes) / len(records):.1f}, {max(len(group) for group in boxes)}",
        "visible box, median width x height (px)": f"{np.median(sizes[:, 2]):.0f} x {np.median(sizes[:, 3]):.0f}",
        "people whose visible box overlaps another's": f"{(largest > 0).mean():.2f}",
        "mask area over box area, median": f"{np.median(fill):.3f}",
        "inscribed ellipse has IoU > 0.5 with the mask": f"{(ellipse > 0.5).mean():.2f}",
    }
    statistics |= {f"crowding {name}": f"{share:.2f}" for name, share in zip(CROWDING, crowding, strict=True)}
    return statistics


def _ellipse_iou(entry: dict[str, Any]) -> float:
    """Return the IoU of the ground-truth mask with the ellipse inscribed in its box, a baseline that uses the box alone."""
    x, y, w, h = entry["bbox"]
    mask = decode(entry)[y : y + h, x : x + w]
    rows, columns = (np.arange(h) + 0.5) / h * 2 - 1, (np.arange(w) + 0.5) / w * 2 - 1
    ellipse = rows[:, None] ** 2 + columns[None] ** 2 <= 1
    return float((mask & ellipse).sum() / (mask | ellipse).sum())
