"""Every experiment, model, schedule and debug file composes and builds; those of this machine's size also start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision

from cis_seg.config.paths import conf_dir
from cis_seg.config.plain import to_dataclass, to_plain
from cis_seg.config.validation import problems
from cis_seg.model.build import build_model
from runs import SMALL, composed, metrics_of, small_run, weights_of
from small_coco import coco_folder

STAGES = ("pretrain", "finetune", "finetune_overlap", "finetune_teacher")
#: of a config, what an experiment sets; the rest follows from it
OWN = ("name", "model", "data", "loss", "teacher", "ema", "optim", "schedule")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (Path(conf_dir()) / group).glob("*.yaml"))


@pytest.mark.parametrize("model", options("model"))
def test_every_model_builds(model: str) -> None:
    typed = to_dataclass(composed(f"model={model}"))
    assert not list(problems(typed))
    with torch.device("meta"):
        network = build_model(typed.model, num_classes=1)
    assert network.mask_head.num_params == network.head.controller.out_channels


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    typed = to_dataclass(composed(f"experiment={experiment}", "data.root=somewhere"))
    assert typed.name == experiment
    assert typed.loss.weights.cls == 1
    assert not (experiment.startswith("cis_") and typed.data.ignore_regions), "the paper's experiments ignore no regions"


@pytest.mark.parametrize("schedule", options("schedule"))
def test_every_schedule_composes_and_validates_its_last_step(schedule: str) -> None:
    typed = to_dataclass(composed(f"schedule={schedule}"))
    assert not list(problems(typed))
    assert typed.schedule.max_steps % typed.schedule.val_every == 0
    assert max([0, *typed.schedule.decay_steps]) < typed.schedule.max_steps


@pytest.mark.parametrize("group", ["data", "loss", "supervision", "optim", "logger", "debug"])
def test_every_option_composes(group: str) -> None:
    for option in options(group):
        typed = to_dataclass(composed(f"{group}={option}", "data.root=somewhere"))
        assert typed.name
        assert group not in ("optim", "debug") or not list(problems(typed))


def test_photos_compare_three_runs_from_one_base() -> None:
    """The fine-tunes differ in their losses alone."""
    runs = {stage: to_plain(composed(f"experiment=photos_{stage}", "data.root=D")) for stage in STAGES}
    control = runs["finetune"]
    for stage, changed in (("finetune_overlap", {"name", "loss"}), ("finetune_teacher", {"name", "loss", "teacher"})):
        own = {key for key in control if control[key] != runs[stage][key] and key in OWN}
        assert own == changed
    assert {run["init_from"] for stage, run in runs.items() if stage != "pretrain"} == {
        f"runs/{runs['pretrain']['name']}/seed0/checkpoints/last.ckpt"
    }
    assert runs["pretrain"]["model"]["backbone"]["weights"] == "imagenet"


@pytest.mark.slow
def test_photos_start_from_a_file_of_weights(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "weights.pth")
    own = [o for o in SMALL if not o.startswith(("data.num_", "model."))]
    files = ["data.annotations=null", "data.images=null", "data.val_annotations=null", "data.val_images=null"]
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")
    for stage in STAGES:
        weights = [f"model.backbone.weights={tmp_path}/weights.pth"] if stage == "pretrain" else []
        run = small_run(tmp_path, f"experiment=photos_{stage}", f"data.root={root}", *weights, *files, *steps, base=own)
        assert metrics_of(run)["step"] == 2


@pytest.mark.slow
def test_coco_mini_starts_on_a_coco_folder(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    own = [o for o in SMALL if not o.startswith("data.num_")]
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")
    listed = ", ".join(f'"{o}"' for o in (*SMALL, *steps) if not o.startswith("hydra."))
    run = small_run(tmp_path, "experiment=coco_mini", f"data.root={root}", *steps, f"base_overrides=[{listed}]", base=own)
    base = tmp_path / "runs" / "crowd_tiny_pretrain" / "seed0"
    assert metrics_of(base)["step"] == 2, "the base was not there, so it was trained first"
    before = (base / "metrics.json").stat().st_mtime_ns
    again = small_run(tmp_path, "experiment=coco_mini", f"data.root={root}", *steps, "name=again", base=own)
    assert (base / "metrics.json").stat().st_mtime_ns == before
    for name, value in weights_of(run).items():
        assert torch.equal(value, weights_of(again)[name]), "a base made on the way changes nothing"
    metrics = metrics_of(run)
    assert metrics["num_annotations"] == 2
    assert "train/segm/AP50" in metrics
    assert "train/floor/ellipse_AP50" in metrics


def test_a_scored_set_without_masks_is_scored_by_its_boxes(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    for path in (root / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            del annotation["segmentation"]
        path.write_text(json.dumps(content))
    own = [o for o in SMALL if not o.startswith("data.num_")]
    steps = ("schedule.max_steps=2", "schedule.val_every=2", "schedule.save_every=2")
    run = small_run(tmp_path, "name=boxes", "data=coco", f"data.root={root}", *steps, base=own)
    metrics = metrics_of(run)
    assert metrics["segm/AP"] is None
    assert metrics["bbox/AP"] is not None
    assert (run / "checkpoints" / "best.ckpt").is_file()
