"""``python scripts/select_crowd_images.py data.root=DIR data.annotations=annotation_val.odgt output=JOB``: choose images for annotation.

The output folder contains ``job.json`` (boxes for an annotation tool, with ``checkpoint=`` also a draft of the masks), ``images.txt`` (file
names), ``report.json`` (why each image of the split was taken or left) and, with ``photos=link`` or ``copy``, ``images/``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from cis_seg.annotation.job import job_content, with_draft
from cis_seg.annotation.selection import REASONS, TAKEN, Criteria, Verdict, draw, judge
from cis_seg.build import build_data
from cis_seg.commands.masks_from_boxes import masks_from_boxes
from cis_seg.config.command_schema import MasksFromBoxesConfig, SelectConfig
from cis_seg.config.schema import CrowdHumanData
from cis_seg.config.validation import checked
from cis_seg.data.crowdhuman_coco import to_coco
from cis_seg.data.faults import Faults
from cis_seg.data.images import read_image
from cis_seg.errors import ConfigError, DataError

log = logging.getLogger(__name__)

Json = dict[str, Any]


def select(cfg: SelectConfig) -> list[Verdict]:
    """Write the job and the report; return why each image was taken or left.

    Raises:
        UserError: a mistake of the user, such as criteria that no image meets, with what to do about it.
    """
    criteria, output = Criteria(**{field.name: getattr(cfg, field.name) for field in fields(Criteria)}), Path(cfg.output).expanduser()
    boxes = _check(cfg, output)
    source, images = build_data(boxes, home=Path(cfg.paths.data)).files["train"]
    content, faults = to_coco(source, images, max_faulty=boxes.max_faulty, exif=boxes.exif)
    verdicts = draw(_judged(content, criteria), cfg.count, cfg.seed, lambda name: _damage(images / name))
    verdicts += _faulty(faults)
    taken = [verdict for verdict in verdicts if verdict.reason == TAKEN]
    print(_counts(source, verdicts, cfg))
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.json").write_text(json.dumps(_report(source, criteria, cfg, verdicts), indent=1) + "\n", encoding="utf-8")
    if not taken:
        raise DataError(
            "no image meets the criteria",
            where=source,
            expected=str(criteria),
            found=f"the reasons are listed in {output / 'report.json'}",
            remedy="loosen the criterion that excluded the most images",
        )
    _write_job(content, taken, images, f"Images of {source.name} with {criteria}; drawn with seed {cfg.seed}", cfg, output)
    return verdicts


def _check(cfg: SelectConfig, output: Path) -> CrowdHumanData:
    """Return the data config; refuse options that contradict each other, and other data than CrowdHuman's."""
    if cfg.min_people > cfg.max_people:
        found = f"{cfg.min_people} to {cfg.max_people}"
        raise ConfigError("the range of people is empty", where="min_people, max_people", expected="the smaller number first", found=found)
    if (output / "job.json").exists() or output.is_file():
        raise ConfigError(
            "the job cannot be written there",
            where=f"output={output}",
            expected="a new folder",
            found="a job" if output.is_dir() else "a file",
            remedy="annotators may be working on it: choose another folder, or delete it",
        )
    if not isinstance(cfg.data, CrowdHumanData):
        raise ConfigError("images can only be chosen from CrowdHuman's records", where="data", expected="data=crowdhuman or data=crowd")
    if cfg.data.boxes != "visible":
        remedy = "remove data.boxes; iou_boxes=full compares whole bodies"
        raise ConfigError(
            "data.boxes must be visible here, because masks cover only the visible parts of people",
            where="data.boxes",
            expected="visible",
            found=cfg.data.boxes,
            remedy=remedy,
        )
    return cfg.data


def _judged(content: Json, criteria: Criteria) -> list[Verdict]:
    annotations: dict[int, list[Json]] = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return [judge(image, annotations[image["id"]], criteria) for image in content["images"]]


def _damage(path: Path) -> str | None:
    """Return why the file cannot be opened, or None."""
    try:
        read_image(path)
    except DataError as error:
        return f"{error.problem} ({error.found})"
    return None


def _faulty(faults: Faults) -> list[Verdict]:
    """Return a verdict for each record that was left out as faulty."""
    return [Verdict(None, None, "faulty_record", f"{fault.kind}: {' '.join(fault.problem.split())}") for fault in faults.listed]


def _counts(source: Path, verdicts: Sequence[Verdict], cfg: SelectConfig) -> str:
    counts = Counter(verdict.reason for verdict in verdicts)
    lines = [f"{source}: {len(verdicts)} records", *(f"{counts[reason]:8d}  {REASONS[reason]}" for reason in REASONS if counts[reason])]
    if cfg.count is not None and counts[TAKEN] < cfg.count:
        lines.append(f"fewer than count={cfg.count} images meet the criteria")
    return "\n".join(lines)


def _report(source: Path, criteria: Criteria, cfg: SelectConfig, verdicts: Sequence[Verdict]) -> Json:
    counts = Counter(verdict.reason for verdict in verdicts)
    return {
        "source": str(source),
        "criteria": asdict(criteria),
        "count": cfg.count,
        "seed": cfg.seed,
        "reasons": {reason: {"images": counts[reason], "meaning": REASONS[reason]} for reason in REASONS if counts[reason]},
        "images": [asdict(verdict) for verdict in verdicts],
    }


def _write_job(content: Json, taken: Sequence[Verdict], images: Path, description: str, cfg: SelectConfig, output: Path) -> None:
    """Write all files; ``job.json`` is written last, so a folder that has it is complete."""
    job = job_content(content, {verdict.line for verdict in taken if verdict.line is not None}, description)
    names = [image["file_name"] for image in job["images"]]
    (output / "images.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for name in names if cfg.photos != "list" else []:
        _place(images / name, output / "images" / name, cfg.photos)
    if cfg.checkpoint is not None:
        job = with_draft(job, _draft(job, images, cfg, output), cfg.masks)
    (output / "job.json").write_text(json.dumps(job) + "\n", encoding="utf-8")
    people = sum(not annotation["iscrowd"] for annotation in job["annotations"])
    print(f"{output / 'job.json'}: {len(names)} images, {people} people to outline; why each image was taken or left: {output}/report.json")


def _place(source: Path, target: Path, how: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if how == "link":
        os.symlink(source.resolve(), target)
    else:
        shutil.copy2(source, target)


def _draft(job: Json, images: Path, cfg: SelectConfig, output: Path) -> Json:
    """Return the job with the model's masks for its boxes; overlays stay beside the job as ``draft_000.png`` ..."""
    with TemporaryDirectory() as folder:
        boxes = Path(folder) / "boxes.json"
        boxes.write_text(json.dumps(job), encoding="utf-8")
        target = output / "draft.json"
        asked = MasksFromBoxesConfig(
            checkpoint=str(cfg.checkpoint), boxes=str(boxes), images=str(images), output=str(target), device=cfg.device, exif=cfg.data.exif
        )
        if unreadable := masks_from_boxes(asked):
            raise next(iter(unreadable.values()))
    draft: Json = json.loads(target.read_text(encoding="utf-8"))
    target.unlink()
    return draft


def select_and_report(cfg: DictConfig) -> None:
    """Hydra's task."""
    select(checked(cfg))
