"""Run folders as written by train and evaluate, with chosen metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def write_run(
    runs: Path,
    name: str,
    seed: int,
    *,
    ap: float | None = 10.0,
    degree: float | None = 0.1,
    weight: float = 0.0,
    reduction: str = "pairs",
    teacher: float | None = None,
    steps: int = 500,
    init_from: str | None = "auto",
    data: dict[str, Any] | None = None,
    num_images: int = 459,
    area: str = "published",
    finished: bool = True,
    supervision: str = "box",
) -> Path:
    """Write ``runs/name/seedN``; AP50 is twice the AP, and fine-tunes start from the pretraining with the same prefix."""
    run = runs / name / f"seed{seed}"
    run.mkdir(parents=True)
    if init_from == "auto":
        base, stage, _ = name.partition("_finetune")
        init_from = f"{runs}/{base}_pretrain/seed{seed}/checkpoints/last.ckpt" if stage else None
    files = {"root": "data/cis", "annotations": None, "val_annotations": "CIS.json", "test_size": 480, "test_max_size": 1333}
    config = {
        "name": name,
        "seed": seed,
        "supervision": supervision,
        "init_from": init_from,
        "data": files | (data or {}),
        "loss": {
            "weights": {"overlap": weight} | ({} if teacher is None else {"teacher": teacher}),
            "overlap": {"reduction": reduction, "detach_selected": False},
        },
        "eval": {"area": area, "score_threshold": 0.05},
        "trainer": {"max_steps": steps},
    }
    OmegaConf.save(OmegaConf.create(config), run / "config.yaml")
    if finished:
        write_metrics(run, ap=ap, degree=degree, num_images=num_images, step=steps)
    return run


def write_evaluation(run: Path, folder: str, *, ap: float, **overrides: Any) -> Path:
    """Write ``run/evaluate/folder``, an evaluation of the run's best checkpoint."""
    output = run / "evaluate" / folder
    output.mkdir(parents=True)
    config = {
        "checkpoint": f"{run}/checkpoints/best.ckpt",
        "predictions": None,
        "test_size": None,
        "max_size": None,
        "score_threshold": None,
        "data": {"root": "data/cis", "annotations": None, "val_annotations": "CIS.json", "test_size": 480, "test_max_size": 1333},
        "eval": {"area": "published", "score_threshold": 0.05},
    }
    OmegaConf.save(OmegaConf.create(config | overrides), output / "evaluate.yaml")
    write_metrics(output, ap=ap)
    return output


def write_metrics(folder: Path, *, ap: float | None, degree: float | None = 0.1, num_images: int = 459, **more: Any) -> None:
    """Write ``metrics.json`` with the keys of a training run."""
    metrics = {
        "segm/AP": ap,
        "segm/AP50": None if ap is None else 2 * ap,
        **dict.fromkeys(("segm/AP75", "segm/APs", "segm/APm", "segm/APl"), 1.0),
        **{f"segm/AP/crowd_{level}": ap and ap / part for part, level in enumerate(("none", "low", "mid", "high"), start=1)},
        "shape/mask_to_box": 0.5,
        "overlap/mean_degree": degree,
        "floor/box_AP50": 10.25,
        "floor/ellipse_AP50": 23.5,
        "floor/mask_to_box": 0.4375,
        "num_images": num_images,
        "num_annotations": 3453,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | more))
