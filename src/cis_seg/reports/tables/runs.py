"""Finished runs as they lie on the disk: what was trained, how it was scored, and the figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cis_seg.coco.reader import read_json
from cis_seg.config.plain import CONFIG, EVALUATION, read_plain
from cis_seg.errors import DataError
from cis_seg.evaluation.score_table import METRICS
from cis_seg.training.run_folder import family

#: column -> its key in metrics.json and the factor to the unit of the tables (percent, but for the ratio of areas)
FIGURES: dict[str, tuple[str, float]] = {
    **{name: (f"segm/{name}", 1.0) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
    "overlap degree": ("overlap/mean_degree", 100.0),  # metrics.json holds Eq. 1 as it is, 0 to 0.5
    "mask / box": ("shape/mask_to_box", 1.0),
}
FLOORS = {"box": "floor/box_AP50", "ellipse": "floor/ellipse_AP50", "mask / box": "floor/mask_to_box"}


@dataclass(frozen=True)
class Protocol:
    """How a run was scored; figures of different protocols never share a row.

    ``floors`` depend on the truth alone, so they tell two data sets apart that have equally many images.
    """

    scored_set: str = field(compare=False)  # its name for people; folders differ from machine to machine
    num_images: int
    num_annotations: int
    floors: tuple[float | None, ...]  # in the order of FLOORS
    area: str  # eval.area
    test_size: int  # shorter side in pixels
    max_size: int  # longer side at most
    score_threshold: float
    checkpoint: str  # the file's name: a run reports its last step


@dataclass(frozen=True)
class Run:
    """One seed of one experiment, scored."""

    path: Path
    name: str
    seed: int
    weight: float  # the paper's lambda
    reduction: str  # of OverlapLoss; empty where it is not used
    steps: int
    base: str | None  # whose weights it started from: a run's name, or a checkpoint file's
    protocol: Protocol
    figures: Mapping[str, float | None]  # by column of FIGURES

    @property
    def family(self) -> str:
        """What runs share that differ in their stage or in OverlapLoss alone: that of the base where there is one."""
        return family(self.base or self.name)


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every finished run under ``paths``, and a sentence for each folder that was left out.

    Args:
        paths: a run's folder, a folder of ``seedN`` folders, a folder of such folders, or a folder that ``evaluate``
            wrote for a run's checkpoint (those are read only when they are named themselves).
    Raises:
        DataError: a path without a finished run, or a damaged file.
    """
    runs: dict[Path, Run] = {}
    left_out: dict[Path, str] = {}
    for path in paths:
        folders = {folder.resolve(): folder for folder in _run_folders(path)}
        reasons = {key: reason for key, folder in folders.items() if (reason := _why_not(folder))}
        if len(reasons) == len(folders):
            found = "; ".join(f"{folders[key]}: {reason}" for key, reason in reasons.items())
            raise DataError(
                "there is no finished run",
                where=path,
                expected=f"folders with {METRICS} and {CONFIG}: a run, a folder of seeds, or a folder of such folders",
                found=found or ("none" if path.exists() else "no such path"),
                remedy="name the folder paths.runs, or let the run finish (resume=true)",
            )
        runs |= {key: _read(folder) for key, folder in folders.items() if key not in reasons}
        left_out |= {key: f"{folders[key]} is left out: {reason}" for key, reason in reasons.items()}
    return list(runs.values()), list(left_out.values())


def _run_folders(path: Path) -> list[Path]:
    """``path`` itself, or the nearest level of folders below it, two down at most, that look like runs."""
    for level in ([path], sorted(path.glob("*")), sorted(path.glob("*/*"))):
        found = [folder for folder in level if (folder / METRICS).is_file() or (folder / CONFIG).is_file()]
        if found:
            return found
    return []


def _why_not(folder: Path) -> str | None:
    """What keeps a folder from being a finished run of ours, in words."""
    if not (folder / METRICS).is_file():
        return f"unfinished, it has no {METRICS}"
    if (folder / EVALUATION).is_file():
        is_run = read_plain(folder / EVALUATION).get("checkpoint") is not None
        return None if is_run else "it scores a results file, which belongs to no run"
    if not (folder / CONFIG).is_file():
        return f"it has neither {CONFIG} nor {EVALUATION}, so nothing says what was scored"
    step = read_json(folder / METRICS, "the run's result").get("step", 0)
    asked = _value(read_plain(folder / CONFIG), "trainer.max_steps", folder)
    return f"unfinished, its {METRICS} is of step {step} of {asked}" if step < asked else None


def _read(folder: Path) -> Run:
    metrics = read_json(folder / METRICS, "the run's result")
    scoring = read_plain(folder / EVALUATION) if (folder / EVALUATION).is_file() else None
    run = folder if scoring is None else _run_of_evaluation(folder, Path(str(scoring["checkpoint"])))
    config = read_plain(run / CONFIG)
    weight = float(_value(config, "loss.weights.overlap", run))
    return Run(
        path=folder,
        name=str(_value(config, "name", run)),
        seed=int(_value(config, "seed", run)),
        weight=weight,
        reduction=_reduction(config, run) if weight else "",
        steps=int(metrics.get("step", _value(config, "trainer.max_steps", run))),
        base=_base(config.get("init_from")),
        protocol=_protocol(config, {}, metrics, run) if scoring is None else _protocol(scoring, scoring, metrics, folder),
        figures={column: _scaled(metrics.get(key), factor) for column, (key, factor) in FIGURES.items()},
    )


def _run_of_evaluation(folder: Path, checkpoint: Path) -> Path:
    """The run whose checkpoint ``evaluate`` scored: the folder around ``evaluate/``, else the one around the checkpoint."""
    around = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    for run in (folder.resolve().parent.parent, around):
        if (run / CONFIG).is_file():
            return run
    raise DataError(
        "an evaluation whose run is not there",
        where=folder,
        expected=f"{CONFIG} in {folder.parent.parent} or {around}",
        remedy="keep evaluations in their run: output=RUN/evaluate/NAME",
    )


def _protocol(config: dict[str, Any], overrides: dict[str, Any], metrics: dict[str, Any], folder: Path) -> Protocol:
    """The protocol of a training run's own score (no ``overrides``), or that of an evaluation, whose own keys go first."""
    keys = ("root", "annotations", "val_annotations", "test_size", "test_max_size")
    data = {key: _value(config, f"data.{key}", folder) for key in keys}
    named = (overrides and data["annotations"]) or data["val_annotations"]
    threshold = overrides.get("score_threshold")
    return Protocol(
        scored_set=Path(named).name if named else f"the held-out images of {Path(data['root']).name}",
        num_images=int(metrics.get("num_images", 0)),
        num_annotations=int(metrics.get("num_annotations", 0)),
        floors=tuple(_scaled(metrics.get(key), 1.0) for key in FLOORS.values()),
        area=str(_value(config, "eval.area", folder)),
        test_size=int(overrides.get("test_size") or data["test_size"]),
        max_size=int(overrides.get("max_size") or data["test_max_size"]),
        score_threshold=float(_value(config, "eval.score_threshold", folder) if threshold is None else threshold),
        checkpoint=Path(overrides.get("checkpoint", "last.ckpt")).name,
    )


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
    return None if value is None else round(factor * float(value), 6)  # beyond 6 digits lies the machine


def _value(config: dict[str, Any], dotted: str, folder: Path) -> Any:
    """``config["a"]["b"]`` of ``"a.b"``, or the error that names the key."""
    found: Any = config
    for key in dotted.split("."):
        if not isinstance(found, dict) or key not in found:
            raise DataError(
                f"{dotted} is missing", where=folder / CONFIG, expected="the config as cis_seg wrote it", remedy="leave this folder out"
            )
        found = found[key]
    return found
