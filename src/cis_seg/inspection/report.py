"""What a check found: as text, as JSON, and as a page of histograms."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cis_seg.coco import rle
from cis_seg.coco.ground_truth import known_file
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins
from cis_seg.evaluation.metrics import Metrics
from cis_seg.inspection.contents import KINDS, Contents, Oddity
from cis_seg.inspection.statistics import CLOSE, FAR, OVERLAPPING, Statistics

#: statistic -> its name in the report, in the order of the report
_NAMES = {
    "images": "images",
    "annotations": "annotations",
    "crowd_regions": "ignore regions",
    "categories": "instances by category",
    "instances_per_image": "instances per image",
    "image_width": "image width, px",
    "image_height": "image height, px",
    "image_ids": "image ids, first and last",
    "annotation_ids": "annotation ids, first and last",
    "missing_annotation_ids": "ids missing between them",
    "top_level_keys": "keys of the file",
    "sizes": "small, medium, large by the file's area and by box",
    "mask_sizes": "small, medium, large by mask",
    "crowding": "instances by largest box IoU with a neighbour (0, < 0.3, 0.3 - 0.5, > 0.5)",
    "boxes_alone": "instances with a box alone",
    "masks": "masks",
    "scored_masks": "masks with a score, from a model",
    "mask_scores": "scores of masks",
    "mask_area": "mask area, px",
    "mask_to_box": "mask area / box area, median",
    "area_is_box_area": "annotations whose area is their box's",
    "area_is_mask_area": "annotations whose area is their mask's",
    "parts_per_mask": "polygon parts per mask",
    f"boxes_within_{CLOSE}_px_of_mask": f"boxes within {CLOSE} px of their mask on every edge",
    f"boxes_beyond_{FAR}_px_of_mask": f"boxes more than {FAR} px off their mask on some edge",
    "mask_pairs": "pairs of masks in one image",
    "mask_pairs_overlapping": f"pairs with IoU above {OVERLAPPING}",
}


def as_json(contents: Contents, counted: Statistics, floors: dict[str, Metrics]) -> dict[str, Any]:
    """The check of one file: statistics, the number of oddities of each kind, and all oddities."""
    entries = [
        {
            "kind": oddity.kind,
            "image_id": oddity.image_id,
            "file_name": _file_name(contents, oddity),
            "annotation_ids": list(oddity.annotation_ids),
            "detail": oddity.detail,
        }
        for oddity in contents.oddities
    ]
    return {
        "source": str(contents.source),
        "known_as": known_file(contents.source),
        "statistics": counted,
        "oddity_counts": {kind: len(found) for kind, found in _by_kind(contents).items()},
        "oddities": entries,
        **({"floors": floors} if floors else {}),
    }


def as_text(contents: Contents, counted: Statistics, floors: dict[str, Metrics], *, most: int | None = None) -> str:
    """The same as text; at most ``most`` oddities of each kind are listed."""
    lines = [str(contents.source)]
    if known := known_file(contents.source):
        lines.append(f"  this is {known}")
    lines += [f"  {name}: {_plain(counted[key])}" for key, name in _NAMES.items() if key in counted and counted[key] not in ({}, [], None)]
    for kind, found in _by_kind(contents).items():
        lines.append(f"  {len(found)} {KINDS[kind]}:")
        lines += [f"    {_plain_oddity(contents, oddity)}" for oddity in found[:most]]
        if most is not None and len(found) > most:
            lines.append(f"    and {len(found) - most} more")
    if not contents.oddities:
        lines.append("  nothing odd")
    for name, metrics in floors.items():
        figures = ", ".join(f"{key.removeprefix('segm/')} {value:.1f}" for key, value in metrics.items() if value is not None)
        lines.append(f"  scored as masks, {name}: {figures}")
    return "\n".join(lines)


def _by_kind(contents: Contents) -> dict[str, list[Oddity]]:
    groups: dict[str, list[Oddity]] = defaultdict(list)
    for oddity in contents.oddities:
        groups[oddity.kind].append(oddity)
    return {kind: groups[kind] for kind in KINDS if kind in groups}


def _file_name(contents: Contents, oddity: Oddity) -> str | None:
    return None if oddity.image_id is None else str(contents.images[oddity.image_id].get("file_name"))


def _plain_oddity(contents: Contents, oddity: Oddity) -> str:
    """``annotations 13/14 of image 0 (273271,a.jpg): mask IoU 0.93``"""
    ids = "/".join(map(str, oddity.annotation_ids))
    image = "" if oddity.image_id is None else f"image {oddity.image_id} ({_file_name(contents, oddity)})"
    subject = " of ".join(part for part in (f"annotation{'s' if '/' in ids else ''} {ids}" if ids else "", image) if part)
    return f"{subject}: {oddity.detail}" if subject and not oddity.detail.startswith(subject) else oddity.detail


def _plain(value: Any) -> str:
    """A statistic in one line."""
    if isinstance(value, dict) and set(value) == {"min", "median", "max"}:
        return f"{value['min']:g} to {value['max']:g}, median {value['median']:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" if not isinstance(item, dict) else f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


PAGE_INCHES = (12, 7)
BINS = 40


def draw_page(contents: Contents, path: Path) -> None:
    """Plot instances per image, sizes, image sizes, crowding, mask area over box area and oddities to ``path``."""
    page = Figure(figsize=PAGE_INCHES, layout="constrained")
    page.suptitle(contents.source.name)
    panels = page.subplots(2, 3).ravel()
    people = contents.people()
    counts = Counter(annotation["image_id"] for annotation in people)
    _histogram(panels[0], "instances per image", [counts[image_id] for image_id in contents.images])
    _histogram(panels[1], "square root of box area, px", [(a["bbox"][2] * a["bbox"][3]) ** 0.5 for a in people])
    panels[2].scatter([i["width"] for i in contents.images.values()], [i["height"] for i in contents.images.values()], s=4, alpha=0.4)
    panels[2].set_title("image width and height, px")
    levels = Counter(crowd_bins(people).values())
    panels[3].bar(CROWD_BINS, [levels[name] for name in CROWD_BINS])
    panels[3].set_title("instances by crowding")
    ratios = [rle.area(a["segmentation"]) / (a["bbox"][2] * a["bbox"][3]) for a in people if a["segmentation"] is not None]
    _histogram(panels[4], "mask area / box area, cut at 2", np.minimum(ratios, 2))
    odd = Counter(oddity.kind for oddity in contents.oddities)
    kinds = [kind for kind in KINDS if odd[kind]]
    panels[5].barh(kinds, [odd[kind] for kind in kinds])
    panels[5].set_title("oddities")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=110)


def _histogram(panel: Axes, title: str, values: ArrayLike) -> None:
    panel.hist(np.asarray(values), bins=BINS)
    panel.set_title(title)
