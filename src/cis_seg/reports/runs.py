"""Finished runs on disk: what was trained, how it was evaluated, and the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cis_seg.coco.reader import read_json
from cis_seg.config.plain import CONFIG, EVALUATION, read_plain
from cis_seg.errors import DataError
from cis_seg.evaluation.scores import METRICS
from cis_seg.training.run_folder import family

#: column -> its key in metrics.json and the factor to the unit of the tables (percent, except the ratio of areas)
COLUMNS: dict[str, tuple[str, float]] = {
    **{name: (f"segm/{name}", 1.0) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
    "overlap degree": ("overlap/mean_degree", 100.0),  # metrics.json stores Eq. 1 itself, 0 to 0.5
    "mask / box": ("shape/mask_to_box", 1.0),
}
#: the same for AP by crowding: the largest IoU of a person's box with another person's box
CROWDING: dict[str, tuple[str, float]] = {
    f"crowding {limits}": (f"segm/AP/crowd_{level}", 1.0)
    for limits, level in {"none": "none", "below 0.3": "low", "0.3 to 0.5": "mid", "above 0.5": "high"}.items()
}
BASELINES = {"box": "floor/box_AP50", "ellipse": "floor/ellipse_AP50", "mask / box": "floor/mask_to_box"}


@dataclass(frozen=True)
class Protocol:
    """How a run was evaluated. Metrics of different protocols never share a table.

    ``baselines`` depend on the ground truth alone, so they distinguish data sets with the same number of images.
    """

    scored_set: str = field(compare=False)  # display name; folders differ between machines
    num_images: int
    num_annotations: int
    baselines: tuple[float | None, ...]  # in the order of BASELINES
    area: str  # eval.area
    test_size: int  # shorter side in pixels
    max_size: int  # maximum longer side in pixels
    score_threshold: float
    checkpoint: str  # file name; a training run reports its last step
    masks: str = ""  # how masks and scores were changed (_masks); empty as predicted


@dataclass(frozen=True)
class Run:
    """One evaluated seed of one experiment."""

    path: Path
    name: str
    seed: int
    weight: float  # the paper's lambda
    reduction: str  # of OverlapLoss; empty if lambda is 0
    teacher: float  # weight of the teacher's loss
    steps: int
    supervision: str  # box or mask
    base: str | None  # where the initial weights come from: the name of a run or of a checkpoint file
    protocol: Protocol
    metrics: Mapping[str, float | None]  # by column of COLUMNS and CROWDING

    @property
    def family(self) -> str:
        """What runs share that differ only in their stage or in OverlapLoss; taken from the base if there is one."""
        return family(self.base or self.name)


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return all finished runs under ``paths``, and one sentence for each folder that was skipped.

    Args:
        paths: run folders, folders of ``seedN`` folders, folders of such folders, or folders written by ``evaluate`` for
            the checkpoint of a run (read only if given explicitly).

    Raises:
        DataError: a path contains no finished run, or a file is corrupt.
    """
    runs: dict[Path, Run] = {}
    skipped: dict[Path, str] = {}
    for path in paths:
        folders = {folder.resolve(): folder for folder in _run_folders(path)}
        reasons = {key: reason for key, folder in folders.items() if (reason := _reason_to_skip(folder))}
        if len(reasons) == len(folders):
            found = "; ".join(f"{folders[key]}: {reason}" for key, reason in reasons.items())
            raise DataError(
                "no finished run found",
                where=path,
                expected=f"folders with {METRICS} and {CONFIG}: a run, a folder of seeds, or a folder of such folders",
                found=found or ("none" if path.exists() else "no such path"),
                remedy="pass the folder paths.runs, or let the run finish (resume=true)",
            )
        runs |= {key: _read(folder) for key, folder in folders.items() if key not in reasons}
        skipped |= {key: f"{folders[key]} skipped: {reason}" for key, reason in reasons.items()}
    return list(runs.values()), list(skipped.values())


def _run_folders(path: Path) -> list[Path]:
    """Return ``path`` itself or the first level below it, at most two down, that contains run folders."""
    for level in ([path], sorted(path.glob("*")), sorted(path.glob("*/*"))):
        found = [folder for folder in level if (folder / METRICS).is_file() or (folder / CONFIG).is_file()]
        if found:
            return found
    return []


def _reason_to_skip(folder: Path) -> str | None:
    """Return why a folder is not a finished run, or None if it is one."""
    if not (folder / METRICS).is_file():
        return f"unfinished, no {METRICS}"
    if (folder / EVALUATION).is_file():
        is_run = read_plain(folder / EVALUATION).get("checkpoint") is not None
        return None if is_run else "it scores a results file, which belongs to no run"
    if not (folder / CONFIG).is_file():
        return f"neither {CONFIG} nor {EVALUATION} found, so the protocol is unknown"
    step = read_json(folder / METRICS, "the run's result").get("step", 0)
    max_steps = _value(read_plain(folder / CONFIG), "trainer.max_steps", folder)
    return f"unfinished, {METRICS} is of step {step} of {max_steps}" if step < max_steps else None


def _read(folder: Path) -> Run:
    metrics = read_json(folder / METRICS, "the run's result")
    evaluation = read_plain(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
    run = folder if evaluation is None else _evaluated_run(folder, Path(str(evaluation["checkpoint"])))
    config = read_plain(run / CONFIG)
    weight = float(_value(config, "loss.weights.overlap", run))
    return Run(
        path=folder,
        name=str(_value(config, "name", run)),
        seed=int(_value(config, "seed", run)),
        weight=weight,
        reduction=_reduction(config, run) if weight else "",
        teacher=float(_value(config, "loss.weights", run).get("teacher", 0.0)),  # older runs have no such option
        steps=int(metrics.get("step", _value(config, "trainer.max_steps", run))),
        supervision=str(config.get("supervision", "box")),
        base=_base(config.get("init_from")),
        protocol=_protocol(config, {}, metrics, run) if evaluation is None else _protocol(evaluation, evaluation, metrics, folder),
        metrics={column: _scaled(metrics.get(key), factor) for column, (key, factor) in (COLUMNS | CROWDING).items()},
    )


def _evaluated_run(folder: Path, checkpoint: Path) -> Path:
    """Return the run that ``evaluate`` scored: the folder that contains ``evaluate/``, else the one that contains the checkpoint."""
    of_checkpoint = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    for run in (folder.resolve().parent.parent, of_checkpoint):
        if (run / CONFIG).is_file():
            return run
    raise DataError(
        "the run of an evaluation does not exist",
        where=folder,
        expected=f"{CONFIG} in {folder.parent.parent} or {of_checkpoint}",
        remedy="keep evaluations inside their run: output=RUN/evaluate/NAME",
    )


def _protocol(config: dict[str, Any], overrides: dict[str, Any], metrics: dict[str, Any], folder: Path) -> Protocol:
    """Return the protocol of a training run (no ``overrides``) or of an evaluation, whose own keys take precedence."""
    keys = ("root", "annotations", "val_annotations", "test_size", "test_max_size")
    data = {key: _value(config, f"data.{key}", folder) for key in keys}
    named = (overrides and data["annotations"]) or data["val_annotations"]
    threshold = overrides.get("score_threshold")
    return Protocol(
        scored_set=Path(named).name if named else f"the held-out images of {Path(data['root']).name}",
        num_images=int(metrics.get("num_images", 0)),
        num_annotations=int(metrics.get("num_annotations", 0)),
        baselines=tuple(_scaled(metrics.get(key), 1.0) for key in BASELINES.values()),
        area=str(_value(config, "eval.area", folder)),
        test_size=int(overrides.get("test_size") or data["test_size"]),
        max_size=int(overrides.get("max_size") or data["test_max_size"]),
        score_threshold=float(_value(config, "eval.score_threshold", folder) if threshold is None else threshold),
        checkpoint=Path(overrides.get("checkpoint", "last.ckpt")).name,
        masks=_masks(_value(config, "eval", folder)),
    )


def _masks(scoring: dict[str, Any]) -> str:
    """Return how masks and scores were changed before scoring; 0.1.0 did not have these options."""
    outlines = "refined" if scoring.get("refine") else "cut to their boxes" if scoring.get("cut_to_box") else ""
    others = {"flip": "averaged with the mirrored image's", "rescore": "rescored"}
    return ", ".join(filter(None, [outlines, *(words for key, words in others.items() if scoring.get(key))]))


def _reduction(config: dict[str, Any], run: Path) -> str:
    overlap = _value(config, "loss.overlap", run)
    return f"{overlap['reduction']}, detached" if overlap.get("detach_selected") else str(overlap["reduction"])


def _base(init_from: str | None) -> str | None:
    if init_from is None:
        return None
    path = Path(init_from)
    in_run = path.parent.name == "checkpoints" and len(path.parts) > 3  # NAME/seedN/checkpoints/FILE
    return path.parents[2].name if in_run else path.stem


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else round(factor * float(value), 6)  # further digits differ between machines


def _value(config: dict[str, Any], dotted: str, folder: Path) -> Any:
    """Return ``config["a"]["b"]`` for ``"a.b"``, or raise an error that names the key."""
    found: Any = config
    for key in dotted.split("."):
        if not isinstance(found, dict) or key not in found:
            expected = "the config as cis_seg wrote it"
            raise DataError(f"{dotted} is missing", where=folder / CONFIG, expected=expected, remedy="leave this folder out")
        found = found[key]
    return found
