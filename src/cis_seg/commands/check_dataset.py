"""``python scripts/check_dataset.py``: counts, statistics and every suspicious annotation of a data set."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cis_seg.build import build_data
from cis_seg.coco.ground_truth import GroundTruth
from cis_seg.config.command_schema import CheckConfig
from cis_seg.config.schema import CrowdHumanData
from cis_seg.config.validation import checked
from cis_seg.evaluation.baselines import baseline_results
from cis_seg.evaluation.metrics import Metrics, score
from cis_seg.inspection.contents import Contents, read_contents
from cis_seg.inspection.oddities import find_oddities
from cis_seg.inspection.report import as_json, as_text, draw_page
from cis_seg.inspection.statistics import Statistics, statistics

log = logging.getLogger(__name__)

REPORT = "check"  # .txt, .json and .png
ON_SCREEN = 20  # suspicious annotations printed per kind; check.txt lists them all


def check(cfg: DictConfig) -> None:
    """Check every annotation file of a data set; write and print the findings.

    Raises:
        UserError: no annotation file, or one that cannot be parsed.
    """
    typed: CheckConfig = checked(cfg)
    output = Path(typed.output)
    data = build_data(typed.data, home=Path(typed.paths.data))
    boxes: Any = typed.data.boxes if isinstance(typed.data, CrowdHumanData) else "visible"
    reports: dict[str, Any] = {}
    for name, (source, folder) in data.annotated_files().items():
        pixels = typed.pixels and folder.is_dir()
        if typed.pixels and not pixels:
            log.info("%s does not exist: images are not checked", folder)
        contents = read_contents(source, folder, boxes=boxes, exif=typed.data.exif)
        find_oddities(contents, pixels=pixels, exif=typed.data.exif)
        counted, baselines = statistics(contents), _baselines(contents, typed.eval.area) if typed.floors else {}
        reports[name] = as_json(contents, counted, baselines)
        _write(contents, counted, baselines, output, name)
    (output / f"{REPORT}.json").write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    print(f"all suspicious annotations, statistics and plots: {output}/{REPORT}*")


def _baselines(contents: Contents, area: str) -> dict[str, Metrics]:
    """Score filled boxes, ellipses and the ground truth itself as masks; the ground truth must score 100."""
    if contents.source.suffix == ".odgt" or not any(a["segmentation"] is not None for a in contents.people()):
        return {}
    truth = GroundTruth(contents.source)
    candidates = {
        "boxes filled in": baseline_results(truth, "box"),
        "ellipses in the boxes": baseline_results(truth, "ellipse"),
        "ellipses of 0.9 of the boxes": baseline_results(truth, "small_ellipse"),
        "the truth itself": [{**a, "score": 1.0} for a in truth.annotations if not a["iscrowd"] and a["id"] not in truth.maskless],
    }
    kept = ("segm/AP", "segm/AP50", "segm/AP75", "segm/APs", "segm/APm", "segm/APl")
    scores = {name: score(truth, entries, iou_types=("segm",), area=area).metrics for name, entries in candidates.items()}
    return {name: {key: metrics[key] for key in kept} for name, metrics in scores.items()}


def _write(contents: Contents, counted: Statistics, baselines: dict[str, Metrics], output: Path, name: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{REPORT}_{name}.txt").write_text(as_text(contents, counted, baselines) + "\n", encoding="utf-8")
    draw_page(contents, output / f"{REPORT}_{name}.png")
    print(as_text(contents, counted, baselines, most=ON_SCREEN))
