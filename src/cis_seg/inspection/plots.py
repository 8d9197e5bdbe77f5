"""One page of histograms of a data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cis_seg.coco import rle
from cis_seg.evaluation.baselines import CROWD_BINS, crowd_bins
from cis_seg.inspection.contents import KINDS, Contents

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
