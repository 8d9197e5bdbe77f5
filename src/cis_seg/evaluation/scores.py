"""The scores of a run or of an evaluation: metrics.json in its folder, and the table beside the baselines at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cis_seg.coco.ground_truth import BOX_KINDS
from cis_seg.runtime.atomic_files import retry_while_disk_full, write_atomically

METRICS = "metrics.json"

#: the metric that a sweep maximises
OBJECTIVE = "segm/AP"
CATEGORIES_ABREAST = 2  # fits into 80 columns, and COCO's 80 categories onto a screen
_CATEGORY = "bbox/AP/"

_CROWDHUMAN = {"AP": "AP", "MR": "MR^-2 (lower is better)", "JI": "JI"}

#: rows of the table: key in metrics.json -> meaning
ROWS = {
    "segm/AP": "mask AP",
    "segm/AP50": "mask AP50",
    "segm/AP75": "mask AP75",
    "segm_exclusive/AP": "mask AP, each pixel to its best mask",
    "floor/box_AP50": "  baseline: filled ground-truth boxes, AP50",
    "floor/ellipse_AP50": "  baseline: ellipses in these boxes, AP50",
    "given_boxes/mean_iou": "mask IoU for the ground-truth boxes, mean",
    "given_boxes/iou75": "  fraction above 0.75",
    "given_boxes/mean_iou/size_48_up": "  of boxes of 48 px and more, mean",
    "given_boxes/ellipse/mean_iou/size_48_up": "    baseline: ellipses in these boxes",
    "given_boxes/box/mean_iou/size_48_up": "    baseline: these boxes filled",
    "bbox/AP50": "box AP50",
    **{f"crowdhuman/{name}/{kind}": f"CrowdHuman {text}, {kind} boxes" for kind in BOX_KINDS for name, text in _CROWDHUMAN.items()},
    "shape/mask_to_box": "mask area / box area, median",
    "floor/mask_to_box": "  the same for the ground truth",
    "overlap/mean_degree": "overlap degree of touching masks (Eq. 1)",
}


def write_metrics(folder: Path, metrics: Mapping[str, float | None]) -> None:
    """Write ``folder/metrics.json`` atomically, once the disk has space: scores in percent, None for a score that is undefined."""
    path, content = folder / METRICS, f"{json.dumps(dict(metrics), indent=2)}\n".encode()
    retry_while_disk_full(lambda: write_atomically(path, content), path, len(content))


def read_metrics(folder: Path) -> dict[str, float | None]:
    """Return the content of ``folder/metrics.json``, which this package wrote."""
    metrics: dict[str, float | None] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return metrics


def reported_step(run: Path) -> int:
    """Return the step of the scores in ``run/metrics.json``; 0 without the file."""
    return int(read_metrics(run).get("step") or 0) if (run / METRICS).is_file() else 0


def print_report(run: Path) -> float | None:
    """Print the scores in ``run/metrics.json`` and return the validation mask AP in percent, which sweeps maximise."""
    metrics = read_metrics(run)
    console = Console(stderr=True)
    picture = run / "overlays" / "latest.png"
    pictures = [f"ground truth and predictions: {picture}"] if picture.is_file() else []
    print_scores(console, metrics, title=f"{run} after {metrics.get('step')} steps", notes=[*pictures, f"all metrics: {run / METRICS}"])
    return metrics.get(OBJECTIVE)


def print_scores(console: Console, metrics: Mapping[str, float | None], *, title: str, notes: Sequence[str]) -> None:
    """Print title, table of scores and notes. Title and notes are not wrapped or marked up: a path may be long or have [brackets]."""
    console.print(title, soft_wrap=True, markup=False, highlight=False)
    console.print(score_table(metrics), markup=False, highlight=False)
    if len(_categories(metrics)) > 1:
        console.print(category_table(metrics), markup=False, highlight=False)
    for note in notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


def score_table(metrics: Mapping[str, float | None]) -> Table:
    """Return a table of the scored sets: held-out images, and training images if they were scored too."""
    with_train = any(key.startswith("train/") for key in metrics)
    table = Table("", "held-out", *(["trained on"] if with_train else []))
    for key, meaning in ROWS.items():
        cells = [_cell(metrics.get(key))] + ([_cell(metrics.get(f"train/{key}"))] if with_train else [])
        if cells != ["-"] * len(cells):
            table.add_row(meaning, *cells)
    return table


def category_table(metrics: Mapping[str, float | None]) -> Table:
    """Return mask and box AP of every category of the held-out images, in label order, in two halves side by side."""
    rows = [(Text(name), _cell(metrics.get(f"segm/AP/{name}")), _cell(metrics[f"{_CATEGORY}{name}"])) for name in _categories(metrics)]
    half = -(-len(rows) // CATEGORIES_ABREAST)
    rows += [(Text(), "", "")] * (half * CATEGORIES_ABREAST - len(rows))
    table = Table(*(["category", "mask AP", "box AP"] * CATEGORIES_ABREAST))
    for start in range(half):
        table.add_row(*(cell for row in rows[start::half] for cell in row))
    return table


def _categories(metrics: Mapping[str, float | None]) -> list[str]:
    """Return the scored categories in label order. Box AP has keys for categories only, mask AP also for crowd bins."""
    return [key.removeprefix(_CATEGORY) for key in metrics if key.startswith(_CATEGORY)]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
